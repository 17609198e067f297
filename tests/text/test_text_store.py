import logging
import os
import signal
from pathlib import Path

import numpy as np
import pytest
from test_text_cache import in_child

from synergen.errors import UserError
from synergen.text import store as module
from synergen.text.store import VectorStore, text_key

VECTORS = np.arange(6, dtype=np.float16).reshape(3, 2)


def stored(store: VectorStore) -> dict[bytes, list[float]]:
    return {key: row.tolist() for keys, rows in store.chunks() for key, row in zip(keys, rows, strict=True)}


def test_what_was_added_is_found_by_its_text(tmp_path: Path) -> None:
    store = VectorStore(tmp_path / "store")
    assert list(store.chunks()) == []
    store.add(["a", "b"], VECTORS[:2])
    store.add(["ç\n"], VECTORS[2:])
    assert stored(store) == {text_key("a"): [0, 1], text_key("b"): [2, 3], text_key("ç\n"): [4, 5]}
    assert store.missing(["b", "x", "a", "y", "x"]) == ["x", "y"]


def test_a_change_of_any_byte_is_noticed(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    store = VectorStore(tmp_path)
    store.add(["a", "b", "c"], VECTORS)
    (path,) = tmp_path.glob("*.npy")
    whole = path.read_bytes()
    for at in range(len(whole)):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
        assert store.missing(["a"]) == ["a"]
        assert not path.exists()
    for cut in (0, 1, len(whole) - 1):
        path.write_bytes(whole[:cut])
        assert stored(store) == {}
    assert "is damaged" in caplog.text
    assert caplog.records[0].levelno == logging.WARNING


def test_a_kill_while_a_chunk_is_written_leaves_the_others_and_is_cleared_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = VectorStore(tmp_path)
    store.add(["a"], VECTORS[:1])

    def half(chunk: bytes, path: Path) -> None:
        path.write_bytes(chunk[:50])
        os.kill(os.getpid(), signal.SIGKILL)

    with monkeypatch.context() as patch:
        patch.setattr(module, "_write", half)
        assert in_child(lambda: store.add(["b"], VECTORS[1:2])) == -signal.SIGKILL
    assert len(list(tmp_path.glob(".*.tmp"))) == 1
    assert stored(store) == {text_key("a"): [0, 1]}
    store.add(["c"], VECTORS[2:])
    assert not list(tmp_path.glob(".*.tmp"))


def test_a_full_disk_keeps_what_was_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = VectorStore(tmp_path)
    store.add(["a"], VECTORS[:1])

    def full(chunk: bytes, path: Path) -> None:
        path.write_bytes(chunk[:50])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(module, "_write", full)
    with pytest.raises(UserError, match="No space left on device"):
        store.add(["b"], VECTORS[1:2])
    assert stored(store) == {text_key("a"): [0, 1]}
    assert not list(tmp_path.glob(".*.tmp"))
