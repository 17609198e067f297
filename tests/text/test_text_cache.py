import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from synergen.errors import UserError
from synergen.text.cache import cache_root, cached_matrix

MATRIX = np.arange(6, dtype=np.float16).reshape(3, 2)


def refuse() -> np.ndarray:
    raise AssertionError("computed although it was stored")


def in_child(work: Callable[[], object]) -> int:
    """Exit code of `work` in a process of its own; minus the signal's number if one ended it."""
    child = multiprocessing.get_context("fork").Process(target=work)
    child.start()
    child.join(30)
    assert child.exitcode is not None
    return child.exitcode


def test_computed_once_then_mapped_read_only(tmp_path: Path) -> None:
    path = tmp_path / "text" / "key.npy"
    first = cached_matrix(path, 3, lambda: MATRIX)
    second = cached_matrix(path, 3, refuse)
    for matrix in (first, second):
        assert isinstance(matrix, np.memmap)
        assert not matrix.flags.writeable
        np.testing.assert_array_equal(matrix, MATRIX)


def test_float32_is_stored_as_float16(tmp_path: Path) -> None:
    stored = cached_matrix(tmp_path / "key.npy", 1, lambda: np.array([[1 / 3]], np.float32))
    assert stored.dtype == np.float16
    assert stored[0, 0] == np.float16(1 / 3)


@pytest.mark.parametrize(
    "damage",
    [
        lambda path: path.write_bytes(path.read_bytes()[:-1]),  # cut short by a byte
        lambda path: path.write_bytes(path.read_bytes() + b"\0"),
        lambda path: path.write_bytes(b""),
        lambda path: path.write_bytes(b"not a matrix at all"),
        lambda path: np.save(path, MATRIX.astype(np.float32)),
        lambda path: np.save(path, MATRIX[:2]),  # the rows of some other list of texts
        lambda path: np.save(path, MATRIX.ravel()),
    ],
    ids=["cut", "longer", "empty", "no header", "float32", "rows", "flat"],
)
def test_a_damaged_file_is_computed_again(tmp_path: Path, damage: Callable[[Path], None]) -> None:
    path = tmp_path / "key.npy"
    cached_matrix(path, 3, lambda: np.zeros_like(MATRIX))
    damage(path)
    np.testing.assert_array_equal(cached_matrix(path, 3, lambda: MATRIX), MATRIX)
    np.testing.assert_array_equal(cached_matrix(path, 3, refuse), MATRIX)


def test_processes_that_ask_together_compute_once(tmp_path: Path) -> None:
    path, log = tmp_path / "key.npy", tmp_path / "log"

    def compute() -> np.ndarray:
        with open(log, "a") as file:
            file.write("computed\n")
        time.sleep(0.3)  # long enough for the others to arrive
        return MATRIX

    fork = multiprocessing.get_context("fork")
    children = [fork.Process(target=cached_matrix, args=(path, 3, compute)) for _ in range(4)]
    for child in children:
        child.start()
    for child in children:
        child.join(30)
    assert [child.exitcode for child in children] == [0] * 4
    assert log.read_text() == "computed\n"


def test_a_kill_while_computing_leaves_nothing_in_the_way(tmp_path: Path) -> None:
    path = tmp_path / "key.npy"

    def die() -> np.ndarray:
        os.kill(os.getpid(), signal.SIGKILL)
        return MATRIX

    assert in_child(lambda: cached_matrix(path, 3, die)) == -signal.SIGKILL
    assert not path.exists()
    outcome: list[np.ndarray] = []
    worker = threading.Thread(target=lambda: outcome.append(cached_matrix(path, 3, lambda: MATRIX)), daemon=True)
    worker.start()
    worker.join(10)  # a lock that outlives its owner would block for ever
    np.testing.assert_array_equal(outcome[0], MATRIX)


def test_a_kill_while_writing_leaves_a_part_that_the_next_writer_removes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "key.npy"

    def half(file: object, _: np.ndarray) -> None:
        file.write(b"\x93NUMPY")  # type: ignore[attr-defined]
        file.flush()  # type: ignore[attr-defined]
        os.kill(os.getpid(), signal.SIGKILL)

    with monkeypatch.context() as patch:
        patch.setattr(np, "save", half)
        assert in_child(lambda: cached_matrix(path, 3, lambda: MATRIX)) == -signal.SIGKILL
    assert not path.exists()
    assert len(list(tmp_path.glob(".key.npy.*.tmp"))) == 1
    np.testing.assert_array_equal(cached_matrix(path, 3, lambda: MATRIX), MATRIX)
    assert not list(tmp_path.glob(".key.npy.*.tmp"))


def test_a_failing_computation_stores_nothing_and_frees_the_lock(tmp_path: Path) -> None:
    path = tmp_path / "key.npy"
    with pytest.raises(AssertionError, match="computed although"):
        cached_matrix(path, 3, refuse)
    assert not path.exists()
    np.testing.assert_array_equal(cached_matrix(path, 3, lambda: MATRIX), MATRIX)


def test_a_folder_that_cannot_be_made_is_named_with_the_way_out(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(UserError, match=r"file.*SYNERGEN_CACHE"):
        cached_matrix(tmp_path / "file" / "text" / "key.npy", 3, lambda: MATRIX)


def test_the_environment_names_the_root(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SYNERGEN_CACHE", "/elsewhere")
    assert cache_root() == Path("/elsewhere")
    monkeypatch.setenv("SYNERGEN_CACHE", "")
    monkeypatch.setenv("HOME", "/home/somebody")
    assert cache_root() == Path("/home/somebody/.cache/synergen")
