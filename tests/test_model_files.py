"""Model files: what is written is what is read, whole or not at all, and nothing else is taken for a model."""

import json
import shutil

import numpy as np
import pandas as pd
import pytest
import torch
from saved_toys import SMALL, save_toy_model, toy_dataset, toy_slates, toy_vectors

from synergen.contract import Task
from synergen.data.batches import questions
from synergen.data.splits import Part
from synergen.errors import UserError
from synergen.evaluation.calibration import Temperature
from synergen.model.synergen import SynerGen
from synergen.model_files import catalogue_hash, load_model, model_folder, save_model
from synergen.runs import RunSpec


@pytest.fixture(scope="module")
def dataset():
    return toy_dataset()


@pytest.fixture(scope="module")
def saved_once(dataset, tmp_path_factory):
    folder = model_folder(tmp_path_factory.mktemp("out"), "0123456789ab")
    return folder, save_toy_model(folder, dataset, temperature=Temperature(0.5, -1.0))


@pytest.fixture
def folder(saved_once, tmp_path):
    return shutil.copytree(saved_once[0], tmp_path / "model")


@pytest.mark.parametrize("settings", [{}, {"text_encoder": "trained"}, {"inputs": "id", "ranking_head": False}])
def test_a_loaded_model_answers_alike_bit_for_bit(dataset, settings, tmp_path):
    model = save_toy_model(tmp_path / "model", dataset, **settings)
    loaded = load_model(tmp_path / "model").model
    for task in Task:
        asked = next(questions(dataset.log, dataset.split, Part.TEST, task, 6, 64)).requests
        with torch.inference_mode():
            assert torch.equal(loaded.user_vectors(asked), model.user_vectors(asked))
    assert torch.equal(loaded.item_vectors(), model.item_vectors())


def test_weights_that_lie_in_one_piece_of_memory_are_saved_apart(dataset, tmp_path):
    """As cuDNN lays those of a GRU; the format refuses them."""
    vectors = toy_vectors(dataset.item_texts()), toy_vectors(dataset.log.query_texts)
    model = SynerGen(dataset.view(*vectors), **SMALL).eval()
    together = torch.cat([weight.detach().flatten() for weight in model.parameters()])
    sizes = [weight.numel() for weight in model.parameters()]
    for weight, part in zip(model.parameters(), together.split(sizes), strict=True):
        weight.data = part.view_as(weight)
    protocol = {"encoder": "minilm", "search_share": 0.5, "filter": "none", "min_count": 5, "split": "leave-one-out"}
    spec = RunSpec("SynerGen", "toy", "joint", 0, dict(SMALL), {}, protocol)
    save_model(tmp_path / "model", model, spec, dataset, vectors, Temperature(1.0))
    loaded = load_model(tmp_path / "model").model
    assert all(torch.equal(one, other) for one, other in zip(loaded.parameters(), model.parameters(), strict=True))


def test_everything_that_serving_needs_is_kept(dataset, saved_once):
    saved = load_model(saved_once[0])
    log = dataset.log
    assert list(saved.item_ids) == list(log.item_ids)
    assert saved.titles == log.titles
    assert saved.view.item_texts == dataset.item_texts()
    assert saved.view.query_texts == log.query_texts
    assert saved.view.n_users == log.n_users
    assert (saved.view.item_counts == dataset.split.item_counts()).all()
    assert saved.temperature == Temperature(0.5, -1.0)
    assert saved.removes_seen
    assert saved.actions == ["", "event"]
    saved.refuse_other_items(log.item_ids, "toy")


def test_requests_with_impressions_keep_seen_items(tmp_path):
    save_toy_model(tmp_path / "model", toy_slates())
    saved = load_model(tmp_path / "model")
    assert not saved.removes_seen
    assert saved.actions == ["", "click", "purchase"]
    assert saved.usual_action == 1  # every purchase follows a click


def test_saving_again_replaces_the_model_and_failing_leaves_the_old_one(dataset, folder):
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    save_toy_model(folder, dataset, width=8)
    assert load_model(folder).spec.settings["width"] == 8
    after = {path.name: path.read_bytes() for path in folder.iterdir()}
    assert after.keys() == before.keys()

    class Unwritable(torch.nn.Module):
        def state_dict(self, *_, **__):
            raise OSError(28, "No space left on device")

    vectors = toy_vectors(dataset.item_texts()), toy_vectors(dataset.log.query_texts)
    with pytest.raises(UserError, match="No space left on device"):
        save_model(folder, Unwritable(), load_model(folder).spec, dataset, vectors)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == after
    assert [path.name for path in folder.parent.iterdir()] == [folder.name]


@pytest.mark.parametrize(
    "name", ["config.json", "weights.safetensors", "catalogue.parquet", "queries.parquet", "text_vectors.safetensors"]
)
@pytest.mark.parametrize("damage", ["cut short", "missing", "of another kind"])
def test_a_damaged_file_is_named(folder, name, damage):
    path = folder / name
    if damage == "missing":
        path.unlink()
    else:
        path.write_bytes(path.read_bytes()[:-100] if damage == "cut short" else b'{"format": "something else"}')
    with pytest.raises(UserError, match=name):
        load_model(folder)


def test_weights_of_another_model_are_refused(dataset, folder, tmp_path):
    save_toy_model(tmp_path / "other", dataset, width=32)
    shutil.copy(tmp_path / "other" / "weights.safetensors", folder)
    with pytest.raises(UserError, match=r"weights\.safetensors.*of another model"):
        load_model(folder)


def test_another_catalogue_is_refused_with_both_hashes(dataset, folder):
    table = pd.read_parquet(folder / "catalogue.parquet")
    table.iloc[::-1].to_parquet(folder / "catalogue.parquet")
    ours = json.loads((folder / "config.json").read_text())["catalogue"]
    theirs = catalogue_hash([None, *table["item"][::-1]])
    with pytest.raises(UserError, match=rf"{theirs[:12]}.*{ours[:12]}"):
        load_model(folder)


def test_another_data_set_is_refused_with_both_hashes(saved_once):
    saved = load_model(saved_once[0])
    with pytest.raises(
        UserError, match=rf"other.*{catalogue_hash([None, 1])[:12]}.*{catalogue_hash(saved.item_ids)[:12]}"
    ):
        saved.refuse_other_items([None, 1], "other")


def test_vectors_that_are_not_finite_are_refused_with_their_row(dataset, tmp_path):
    items, queries = toy_vectors(dataset.item_texts()), toy_vectors(dataset.log.query_texts)
    items[7, 3] = np.nan
    spec = RunSpec("SynerGen", "toy", "joint", 0, {}, {}, {})
    with pytest.raises(UserError, match="items: row 7 "):
        save_model(tmp_path / "model", torch.nn.Linear(1, 1), spec, dataset, (items, queries))
    assert not (tmp_path / "model").exists()


def test_other_models_need_who_builds_them(dataset, tmp_path):
    class Other(torch.nn.Linear):
        pass

    spec = RunSpec("Other", "toy", "recommendation", 0, {}, {}, {})
    model = Other(3, 2)
    save_model(tmp_path, model, spec, dataset, (None, None))
    with pytest.raises(UserError, match="the run is of Other; only SynerGen"):
        load_model(tmp_path)
    loaded = load_model(tmp_path, lambda name, view, settings: Other(3, 2)).model
    assert torch.equal(loaded.weight, model.weight)
