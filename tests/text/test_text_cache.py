import multiprocessing
import os
import resource
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from synergen.errors import UserError
from synergen.files import cache_root
from synergen.text.cache import BLOCK, cached_matrix, new_matrix

MATRIX = np.arange(6, dtype=np.float16).reshape(3, 2)


def write(path: Path) -> None:
    new_matrix(path, 3, 2)[:] = MATRIX


def refuse(path: Path) -> None:
    raise AssertionError("written although it was stored")


def in_child(work: Callable[[], object]) -> int:
    """Exit code of `work` in a process of its own; minus the signal's number if one ended it."""
    child = multiprocessing.get_context("fork").Process(target=work)
    child.start()
    child.join(30)
    assert child.exitcode is not None
    return child.exitcode


def test_written_once_then_mapped_read_only(tmp_path: Path) -> None:
    path = tmp_path / "text" / "key.npy"
    first = cached_matrix(path, 3, write)
    second = cached_matrix(path, 3, refuse)
    for matrix in (first, second):
        assert isinstance(matrix, np.memmap)
        assert not matrix.flags.writeable
        np.testing.assert_array_equal(matrix, MATRIX)


@pytest.mark.parametrize("shape", [(0, 3), (1, 1), (2 * BLOCK + 1, 3)])
def test_a_new_matrix_is_what_numpy_saves(tmp_path: Path, shape: tuple[int, int]) -> None:
    assert new_matrix(tmp_path / "new", *shape).shape == shape
    np.save(tmp_path / "saved.npy", np.zeros(shape, np.float16))
    assert (tmp_path / "new").read_bytes() == (tmp_path / "saved.npy").read_bytes()


def test_a_matrix_that_does_not_fit_is_an_error_and_not_the_end_of_the_process(tmp_path: Path) -> None:
    def fill() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, 10_000))
        with pytest.raises(UserError, match=r"cannot write.*free some space"):
            cached_matrix(tmp_path / "key.npy", BLOCK, lambda path: new_matrix(path, BLOCK, 2).fill(1))

    assert in_child(fill) == 0
    assert not list(tmp_path.glob("*.npy"))
    assert not list(tmp_path.glob(".*"))


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
def test_a_damaged_file_is_written_again(tmp_path: Path, damage: Callable[[Path], None]) -> None:
    path = tmp_path / "key.npy"
    cached_matrix(path, 3, lambda path: new_matrix(path, 3, 2).flush())
    damage(path)
    np.testing.assert_array_equal(cached_matrix(path, 3, write), MATRIX)
    np.testing.assert_array_equal(cached_matrix(path, 3, refuse), MATRIX)


def test_processes_that_ask_together_write_once(tmp_path: Path) -> None:
    path, log = tmp_path / "key.npy", tmp_path / "log"

    def slowly(path: Path) -> None:
        with open(log, "a") as file:
            file.write("written\n")
        time.sleep(0.3)  # long enough for the others to arrive
        write(path)

    fork = multiprocessing.get_context("fork")
    children = [fork.Process(target=cached_matrix, args=(path, 3, slowly)) for _ in range(4)]
    for child in children:
        child.start()
    for child in children:
        child.join(30)
    assert [child.exitcode for child in children] == [0] * 4
    assert log.read_text() == "written\n"


def test_a_kill_while_writing_leaves_a_part_that_the_next_writer_removes(tmp_path: Path) -> None:
    path = tmp_path / "key.npy"

    def half(path: Path) -> None:
        path.write_bytes(b"\x93NUMPY")
        os.kill(os.getpid(), signal.SIGKILL)

    assert in_child(lambda: cached_matrix(path, 3, half)) == -signal.SIGKILL
    assert not path.exists()
    assert len(list(tmp_path.glob(".key.npy.*.tmp"))) == 1
    outcome: list[np.ndarray] = []
    worker = threading.Thread(target=lambda: outcome.append(cached_matrix(path, 3, write)), daemon=True)
    worker.start()
    worker.join(10)  # a lock that outlives its owner would block for ever
    np.testing.assert_array_equal(outcome[0], MATRIX)
    assert not list(tmp_path.glob(".key.npy.*.tmp"))


def test_a_failing_writer_stores_nothing_and_frees_the_lock(tmp_path: Path) -> None:
    path = tmp_path / "key.npy"
    with pytest.raises(AssertionError, match="written although"):
        cached_matrix(path, 3, refuse)
    assert not path.exists()
    np.testing.assert_array_equal(cached_matrix(path, 3, write), MATRIX)


def test_a_folder_that_cannot_be_made_is_named_with_the_way_out(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(UserError, match=r"file.*SYNERGEN_CACHE"):
        cached_matrix(tmp_path / "file" / "text" / "key.npy", 3, write)


def test_the_environment_names_the_root(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SYNERGEN_CACHE", "/elsewhere")
    assert cache_root() == Path("/elsewhere")
    monkeypatch.setenv("SYNERGEN_CACHE", "")
    monkeypatch.setenv("HOME", "/home/somebody")
    assert cache_root() == Path("/home/somebody/.cache/synergen")
