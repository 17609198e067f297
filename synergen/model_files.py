"""A trained model on disk, with all that answering takes: no data set is needed any more.

One folder a run, written whole or not at all: `config.json` (the run's specification, actions, protocol), the weights,
the catalogue, the texts of the training queries, the frozen text vectors of both, and what reduced these, if anything.
"""

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import safetensors.numpy
import safetensors.torch
from safetensors import SafetensorError

from synergen.contract import DataView, Recommender
from synergen.data.dataset import Dataset
from synergen.data.splits import EventSplit
from synergen.errors import UserError
from synergen.evaluation.calibration import Temperature
from synergen.files import digest, whole_folder, write_json
from synergen.model.synergen import SynerGen
from synergen.runs import RunSpec
from synergen.text import Projection

FORMAT = "synergen model 1"
"""What `config.json` begins with; another number is another layout."""

CONFIG = "config.json"
_WEIGHTS, _CATALOGUE = "weights.safetensors", "catalogue.parquet"
_QUERIES, _TEXT = "queries.parquet", "text_vectors.safetensors"

UNCALIBRATED = Temperature(1.0)

Build = Callable[[str, DataView, dict[str, Any]], Recommender]
"""Makes a model of the name, data and settings."""


@dataclass(frozen=True)
class SavedModel:
    """A model and what it was made of."""

    model: Recommender
    spec: RunSpec
    view: DataView
    item_ids: np.ndarray  # (V + 1,) as in the source; row 0 is padding
    titles: list[str]  # V + 1
    actions: list[str]  # A + 1
    usual_action: int  # the most frequent one of the training events
    action_is_outcome: bool
    removes_seen: bool  # whether the run's protocol takes what a user touched before from the candidates
    temperature: Temperature  # of the ranking head's logits
    projection: Projection | None  # what reduced the text vectors
    folder: Path

    def refuse_other_items(self, item_ids: Iterable[Any], source: str) -> None:
        """Raise UserError where a data set numbers its items differently."""
        ours, theirs = catalogue_hash(self.item_ids), catalogue_hash(item_ids)
        if ours != theirs:
            raise UserError(
                f"{source}: its catalogue ({theirs[:12]}) is not that of model {self.spec.id} ({ours[:12]}), which was "
                f"trained on '{self.spec.dataset}'; name that data set, or train a model on this one"
            )


def model_folder(results: Path, run_id: str) -> Path:
    """Where the model of a run is kept in a results folder."""
    return results / "models" / run_id


def catalogue_hash(item_ids: Iterable[Any]) -> str:
    """SHA-256 of item ids in their order."""
    return digest(*map(str, item_ids))


def save_model(
    folder: Path,
    model: Recommender,
    spec: RunSpec,
    dataset: Dataset,
    vectors: tuple[np.ndarray | None, np.ndarray | None],
    temperature: Temperature = UNCALIBRATED,
    projection: Projection | None = None,
) -> None:
    """Write a trained model to `folder`, in place of what is there.

    Args:
        vectors: of items (V + 1, text width) and queries (Q + 1, text width), as the model was built with them.
        temperature: what makes probabilities of the ranking head's logits, fitted on validation data.
        projection: what reduced the text vectors, and will reduce those of new texts.

    Raises:
        UserError: text vectors that are not finite, or a folder that cannot be written.
    """
    log, view = dataset.log, dataset.view(*vectors)
    text = {name: rows for name, rows in zip(("items", "queries"), vectors, strict=True) if rows is not None}
    for name, rows in text.items():
        refuse_not_finite(rows, f"text vectors of {name}")
    config = {
        "format": FORMAT,
        "run": asdict(spec),
        "catalogue": catalogue_hash(log.item_ids),
        "users": log.n_users,
        "actions": log.action_names,
        "usual_action": int(np.bincount(log.actions[dataset.split.trains()]).argmax()),
        "action_is_outcome": log.action_is_outcome,
        "removes_seen": isinstance(dataset.split, EventSplit),
        "temperature": asdict(temperature),
    }
    catalogue = pd.DataFrame(
        {
            "item": pd.Series(log.item_ids[1:]).infer_objects(),
            "title": log.titles[1:],
            "text": view.item_texts[1:],
            "training_events": view.item_counts[1:],
        }
    )

    _part_weights(model)
    halves = {name: np.ascontiguousarray(rows, np.float16) for name, rows in text.items()}
    with whole_folder(folder) as new:
        write_json(new / CONFIG, config)
        try:
            safetensors.torch.save_model(model, str(new / _WEIGHTS))
            safetensors.numpy.save_file(halves | (projection.tensors() if projection else {}), new / _TEXT)
        except SafetensorError as error:
            raise OSError(str(error)) from error
        catalogue.to_parquet(new / _CATALOGUE, index=False)
        pd.DataFrame({"text": view.query_texts[1:]}, dtype=object).to_parquet(new / _QUERIES, index=False)
        for file in new.iterdir():
            file.chmod(0o644)  # safetensors writes for its owner alone


def _part_weights(model: Recommender) -> None:
    """Give weights that lie in one piece of memory pieces of their own, as the format demands: on a GPU those of a GRU
    lie together."""
    for weight in model.parameters():
        if weight.untyped_storage().nbytes() > weight.nbytes:
            weight.data = weight.data.clone()


def load_model(folder: Path, build: Build | None = None) -> SavedModel:
    """Read a model, on the CPU and in evaluation mode.

    Args:
        build: makes the model of a name; by default only SynerGen is known.

    Raises:
        UserError: there is no model, a file of it is damaged or of another model, or its name is not known.
    """
    if not (folder / CONFIG).is_file():
        raise UserError(f"{folder}: there is no trained model in this folder ({CONFIG} is missing)")
    config = _read(folder / CONFIG, lambda path: json.loads(path.read_text(encoding="utf-8")))
    if not isinstance(config, Mapping) or config.get("format") != FORMAT:
        raise UserError(f"{folder / CONFIG}: this is no file of a '{FORMAT}'; train the run again with this version")
    spec = RunSpec(**config["run"])
    catalogue = _read(folder / _CATALOGUE, pd.read_parquet)
    item_ids = np.concatenate([np.array([None], dtype=object), catalogue["item"].to_numpy(dtype=object)])
    if catalogue_hash(item_ids) != config["catalogue"]:
        raise UserError(
            f"{folder / _CATALOGUE}: this catalogue ({catalogue_hash(item_ids)[:12]}) is not the one that the model "
            f"was trained on ({config['catalogue'][:12]}); copy the whole folder of run {spec.id} again"
        )
    queries = _read(folder / _QUERIES, pd.read_parquet)
    text = _read(folder / _TEXT, safetensors.numpy.load_file)
    for name in ("items", "queries"):
        if name in text:
            refuse_not_finite(text[name], f"{folder / _TEXT}, {name}")
    view = DataView(
        n_items=len(catalogue),
        n_queries=len(queries),
        n_actions=len(config["actions"]) - 1,
        item_texts=["", *catalogue["text"]],
        query_texts=["", *queries["text"]],
        item_counts=np.concatenate([[0], catalogue["training_events"].to_numpy(np.int64)]),
        item_vectors=text.get("items"),
        query_vectors=text.get("queries"),
        n_users=config.get("users", 0),
    )
    together = spec.settings | {"embedding": "plain"} if "embedding" in spec.settings else spec.settings
    model = (build or _build_synergen)(spec.model, view, together)  # its tables were gathered before they were written
    _read(folder / _WEIGHTS, lambda path: safetensors.torch.load_model(model, str(path)))
    return SavedModel(
        model=model.eval(),
        spec=spec,
        view=view,
        item_ids=item_ids,
        titles=["", *catalogue["title"]],
        actions=config["actions"],
        usual_action=config["usual_action"],
        action_is_outcome=config["action_is_outcome"],
        removes_seen=config["removes_seen"],
        temperature=Temperature(**config["temperature"]),
        projection=Projection.of(text),
        folder=folder,
    )


def refuse_not_finite(vectors: np.ndarray, what: str) -> None:
    """Raise UserError naming the first row of text vectors (N, text width) that is not finite."""
    bad = np.flatnonzero(~np.isfinite(vectors).all(axis=1))
    if len(bad):
        more = f" and {len(bad) - 1} more" if len(bad) > 1 else ""
        raise UserError(f"{what}: row {bad[0]}{more} holds NaN or infinity; encode these texts again")


def _build_synergen(name: str, view: DataView, settings: dict[str, Any]) -> SynerGen:
    if name != "SynerGen":
        raise UserError(f"the run is of {name}; only SynerGen recommends, searches and ranks outside the benchmark")
    return SynerGen(view, **settings)


def _read(path: Path, read: Callable[[Path], Any]) -> Any:
    try:
        return read(path)
    except Exception as error:  # each file format fails in its own ways
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise UserError(
            f"{path}: cannot be read ({reason}); the file is cut short or of another model: copy the whole folder "
            "again, or train the run again"
        ) from error
