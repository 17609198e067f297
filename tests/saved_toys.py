"""Model files of the made-up shop, without training."""

from pathlib import Path

import numpy as np
import torch
from toys import toy_requests, toy_tables

from synergen.data.dataset import Dataset, prepare
from synergen.data.impressions import with_impressions
from synergen.evaluation.calibration import Temperature
from synergen.model.synergen import SynerGen
from synergen.model_files import save_model
from synergen.raw import validate
from synergen.runs import RunSpec

TEXT_WIDTH = 12
SMALL = {"width": 16, "ffn_width": 32, "dropout": 0.0, "embedding_dropout": 0.0, "max_history": 6}


def toy_vectors(texts: list[str], *_: object, **__: object) -> np.ndarray:
    """Random float16 vectors that depend on each text alone; zero where there is none. Stands for `encode_texts`."""
    rows = [np.random.default_rng(list(text.encode())).normal(size=TEXT_WIDTH) * bool(text) for text in texts]
    return np.array(rows, np.float16)


def toy_dataset() -> Dataset:
    interactions, items = toy_tables(users=80)  # every item occurs, a few never in training
    return prepare(validate(interactions, items, "toy", "toy"), search_share=0.5)


def toy_slates() -> Dataset:
    """With impressions, clicks and purchases."""
    interactions, items, impressions = toy_requests()
    raw = with_impressions(validate(interactions, items, "toy", "toy"), impressions, "toy")
    return prepare(raw, 0.0, "time")


def save_toy_model(
    folder: Path, dataset: Dataset, task: str = "joint", temperature: Temperature | None = None, **settings: object
) -> SynerGen:
    """A random model of the data set, written to `folder`."""
    vectors = toy_vectors(dataset.item_texts()), toy_vectors(dataset.log.query_texts)
    settings = SMALL | settings
    torch.manual_seed(0)
    model = SynerGen(dataset.view(*vectors), **settings).eval()
    for parameter in model.parameters():  # scores hardly depend on the history at initialisation
        parameter.data.mul_(2)
    protocol = {"encoder": "minilm", "search_share": 0.5, "filter": "none", "min_count": 5, "split": "leave-one-out"}
    spec = RunSpec("SynerGen", dataset.log.name, task, 0, dict(settings), {}, protocol)
    save_model(folder, model, spec, dataset, vectors, temperature or Temperature(1.0))
    return model
