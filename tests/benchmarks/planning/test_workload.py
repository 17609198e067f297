"""The work of an epoch is that of the epochs that are trained."""

from dataclasses import replace

import numpy as np
import pytest
from toys import toy_requests, toy_shop

from benchmarks.fit import epochs, training_of
from benchmarks.inputs import Known, load_for, prepare_for
from benchmarks.plan import make_run
from benchmarks.planning.workload import Workload, made_up_batch, workload_of
from benchmarks.spec import load_spec
from synergen.data.batches import training_windows
from synergen.data.splits import EventSplit
from synergen.errors import UserError

PROTOCOL = load_spec(3).protocol | {"max_history": 4}


def test_prepared_sequences(tmp_path) -> None:
    """Windows, events and targets as `training_windows` cuts them, whose histories of 4 events make many."""
    folder = str(toy_shop(tmp_path / "shop", users=300, items=100))
    prepare_for(folder, PROTOCOL, lambda what, done, total: None)
    spec = make_run("SynerGen", "joint", {}, PROTOCOL, "shop", "cpu", 0)
    found, split = workload_of(spec, folder), load_for(folder, PROTOCOL).split
    assert isinstance(split, EventSplit)
    windows = training_windows(split, 4)
    assert (found.windows, found.shown) == (len(windows.starts), 0)
    assert found.windows > 1.5 * 200
    assert found.targets == pytest.approx(windows.target_counts.mean())
    assert found.events == pytest.approx((windows.stops - windows.starts).mean())
    assert found.full == ((windows.stops - windows.starts).max(), 2)


def test_prepared_requests(tmp_path) -> None:
    """Requests of a real batch: as many to learn from as the made-up one has of average windows, within a quarter."""
    folder = tmp_path / "asked"
    folder.mkdir()
    for table, name in zip(toy_requests(users=80), ("interactions", "items", "impressions"), strict=True):
        table.to_parquet(folder / f"{name}.parquet")
    protocol = load_spec(4).protocol
    prepare_for(str(folder), protocol, lambda what, done, total: None)
    spec = make_run("SynerGen", "joint", {}, protocol, "asked", "cpu", 0)
    work = workload_of(spec, str(folder))
    real = list(epochs(load_for(str(folder), protocol), spec, training_of(spec))[0](1))
    requests = [batch.slates.shown.any(-1).sum().item() for batch in real if batch.slates is not None]
    assert sum(requests) == pytest.approx(work.windows * work.targets)
    assert work.shown == max(batch.slates.items.shape[2] for batch in real if batch.slates is not None)
    made_up = made_up_batch(work, 10, spec, Known(40))
    assert made_up.slates is not None
    assert made_up.slates.shown.any(-1).sum() == pytest.approx(10 * work.targets, rel=0.25)


def test_published_counts() -> None:
    """Book Review: 10,053,086 events of 694,898 users, 14 each on average and 12 without the held-out ones."""
    spec = make_run("SynerGen", "recommendation", {}, load_spec(2).protocol, "book-review", "paper", 0)
    assert workload_of(spec, "book-review") == Workload(694_898, 12, 12, (51, 25))


def test_a_file_of_counts() -> None:
    """Session-US: 75 G relevance tokens of 60 interactions a session."""
    spec = make_run("SynerGen", "joint", {}, PROTOCOL | {"max_history": 100}, "session-us", "paper", 0)
    found = workload_of(spec, "session-us")
    assert found.windows * found.targets == 75e9
    assert found == Workload(1_250_000_000, 60, 60, (100, 100))


def test_nothing_is_known_of_a_folder(tmp_path) -> None:
    spec = make_run("SynerGen", "joint", {}, PROTOCOL, "shop", "cpu", 0)
    with pytest.raises(UserError, match="not known before the data set is prepared"):
        workload_of(spec, str(tmp_path))


def test_made_up_windows() -> None:
    """Of average size or full; searches for a search, both kinds for a joint run, none otherwise."""
    work, known = Workload(1000, 11.6, 4.4, (51, 25)), Known(40, 5, ("red", "blue"))
    spec = make_run("SynerGen", "joint", {}, PROTOCOL, "shop", "cpu", 0)
    average, full = made_up_batch(work, 3, spec, known), made_up_batch(work, 3, spec, known, full=True)
    assert (average.events.items.shape, average.targets.sum(1).tolist()) == ((3, 12), [4, 4, 4])
    assert (full.events.items.shape, full.targets.sum(1).tolist()) == ((3, 51), [25, 25, 25])
    assert 1 <= int(full.events.items.min()) <= int(full.events.items.max()) <= 40
    shares = {
        task: float((made_up_batch(work, 2, replace(spec, task=task), known).events.queries > 0).float().mean())
        for task in ("joint", "search", "recommendation")
    }
    assert shares == {"joint": 0.5, "search": 1, "recommendation": 0}


def test_full_windows_hold_the_targets_of_a_batch() -> None:
    """128 windows of 12 targets are 1,536, and 62 windows of 25."""
    work = Workload(1, 12, 12, (51, 25))
    assert work.full_windows(128) == int(np.ceil(1536 / 25)) == 62
    assert work.full_windows(0.5) == 1
