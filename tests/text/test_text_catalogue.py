import hashlib
import os
import resource
import signal
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from test_text_cache import in_child

from synergen.errors import UserError
from synergen.text import Encoder, catalogue, encode_catalogue, encode_texts, store, weights
from synergen.text.projection import fit

WIDTH = 64
TEXTS = [f"title {'x' * (i % 70)} {i}" for i in range(200)]  # 200 texts: chunks of 64 make 4, batches of 32 make 7


class FakeEncoder:
    """In place of a model: vectors that depend on the texts alone, and a list of what was encoded."""

    def __init__(self) -> None:
        self.encoded: list[str] = []
        self.before_batch: Callable[[], None] = lambda: None

    def __call__(self, batch: list[str]) -> torch.Tensor:
        self.before_batch()
        self.encoded += batch
        return torch.from_numpy(np.stack([reference(text) for text in batch]))


def reference(text: str) -> np.ndarray:
    """(WIDTH,) float32: the definition that every row is held to."""
    seed = int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "little")
    return np.random.default_rng(seed).normal(size=WIDTH).astype(np.float32)


def rows(texts: list[str]) -> np.ndarray:
    """(N, WIDTH) float16: `reference` of each text, zero where there is none."""
    return np.array([reference(text) * bool(text.strip()) for text in texts], np.float16).reshape(-1, WIDTH)


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> FakeEncoder:
    encoder = FakeEncoder()
    monkeypatch.setattr(weights, "load", lambda *_: encoder)
    monkeypatch.setattr(catalogue, "CHUNK", 64)
    monkeypatch.setenv("SYNERGEN_CACHE", str(tmp_path))
    return encoder


def test_rows_follow_the_texts_and_equal_texts_are_encoded_once(fake: FakeEncoder) -> None:
    items = ["", *TEXTS, "  ", TEXTS[3], TEXTS[3]]
    queries = ["", "soap", TEXTS[5], "soap"]
    vectors = encode_catalogue(items, queries)
    np.testing.assert_array_equal(vectors.items, rows(items))
    np.testing.assert_array_equal(vectors.queries, rows(queries))
    assert vectors.projection is None
    assert sorted(fake.encoded) == sorted([*TEXTS, "soap"])
    for matrix in (vectors.items, vectors.queries):
        assert isinstance(matrix, np.memmap)
        assert not matrix.flags.writeable


def test_the_longest_texts_come_first(fake: FakeEncoder) -> None:
    encode_catalogue(TEXTS, [])
    lengths = list(map(len, fake.encoded))
    assert lengths == sorted(lengths, reverse=True)


def test_no_texts_at_all(fake: FakeEncoder) -> None:
    vectors = encode_catalogue([], ["", " "])
    assert vectors.items.shape == (0, WIDTH)
    assert vectors.queries.tolist() == [[0.0] * WIDTH] * 2


def test_known_lists_are_read_without_loading_the_encoder(fake: FakeEncoder, monkeypatch: pytest.MonkeyPatch) -> None:
    encode_catalogue(TEXTS, ["soap"])
    monkeypatch.setattr(weights, "load", None)
    np.testing.assert_array_equal(encode_catalogue(TEXTS, ["soap"]).items, rows(TEXTS))
    for other in ({"pooling": "cls"}, {"max_tokens": 8}, {"item_instruction": "passage: "}):
        with pytest.raises(TypeError):  # another encoder, which would have to be loaded
            encode_catalogue(TEXTS, ["soap"], Encoder(**other))


def test_a_list_of_known_texts_needs_no_encoder(fake: FakeEncoder, monkeypatch: pytest.MonkeyPatch) -> None:
    encode_catalogue(TEXTS, [])
    monkeypatch.setattr(weights, "load", None)
    np.testing.assert_array_equal(encode_catalogue(TEXTS[7:20], TEXTS[:3]).items, rows(TEXTS[7:20]))


def test_of_a_catalogue_that_has_grown_only_the_new_is_encoded(fake: FakeEncoder) -> None:
    encode_catalogue(TEXTS, ["soap"])
    fake.encoded.clear()
    grown = ["a new title", *TEXTS[:100], "another", *TEXTS[100:]]
    seen: list[tuple[int, int]] = []
    vectors = encode_catalogue(grown, ["soap"], progress=lambda *done: seen.append(done))
    np.testing.assert_array_equal(vectors.items, rows(grown))
    assert sorted(fake.encoded) == ["a new title", "another"]
    assert seen == [(200, 202), (202, 202)]


def test_instructions_are_part_of_what_is_encoded(fake: FakeEncoder) -> None:
    encoder = Encoder(item_instruction="passage: ", query_instruction="query: ")
    vectors = encode_catalogue(["", "soap"], ["", "soap"], encoder)
    np.testing.assert_array_equal(vectors.items, rows(["", "passage: soap"]))
    np.testing.assert_array_equal(vectors.queries, rows(["", "query: soap"]))


@pytest.mark.parametrize("batches", [1, 2, 3, 5, 7])
def test_after_a_kill_at_most_a_chunk_is_encoded_again(fake: FakeEncoder, batches: int) -> None:
    # Chunks of 64 are two batches of 32: what is whole on disk after n batches that began is (n - 1) // 2 chunks.
    def kill_at_last() -> None:
        nonlocal batches
        batches -= 1
        if batches == 0:
            os.kill(os.getpid(), signal.SIGKILL)

    kept = (batches - 1) // 2 * 64
    fake.before_batch = kill_at_last
    assert in_child(lambda: encode_catalogue(TEXTS, [])) == -signal.SIGKILL
    fake.before_batch, seen = lambda: None, []
    vectors = encode_catalogue(TEXTS, [], progress=lambda *done: seen.append(done))
    assert len(fake.encoded) == len(TEXTS) - kept
    assert seen[0] == (kept, len(TEXTS))
    np.testing.assert_array_equal(vectors.items, rows(TEXTS))


def test_a_resumed_encoding_has_the_batches_of_an_uninterrupted_one(fake: FakeEncoder, tmp_path: Path) -> None:
    encode_catalogue(TEXTS, [], cache_dir=tmp_path / "uninterrupted")
    order, fake.encoded = fake.encoded, []

    def interrupt() -> None:
        if len(fake.encoded) == 160:
            raise KeyboardInterrupt

    fake.before_batch = interrupt
    with pytest.raises(KeyboardInterrupt):
        encode_catalogue(TEXTS, [], cache_dir=tmp_path / "resumed")
    fake.before_batch, fake.encoded = lambda: None, []
    encode_catalogue(TEXTS, [], cache_dir=tmp_path / "resumed")
    assert fake.encoded == order[128:]


def test_a_full_disk_stops_the_encoding_and_the_next_goes_on(
    fake: FakeEncoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write, written = store._write, []

    def until_full(chunk: bytes, path: Path) -> None:
        if len(written) == 2:
            path.write_bytes(chunk[:50])
            raise OSError(28, "No space left on device")
        write(chunk, path)
        written.append(path)

    with monkeypatch.context() as patch:
        patch.setattr(store, "_write", until_full)
        with pytest.raises(UserError, match=r"No space left on device.*free some space"):
            encode_catalogue(TEXTS, [])
    assert not list(tmp_path.rglob("*.tmp"))
    fake.encoded.clear()
    np.testing.assert_array_equal(encode_catalogue(TEXTS, []).items, rows(TEXTS))
    assert len(fake.encoded) == len(TEXTS) - 2 * 64


def test_a_matrix_for_which_there_is_no_room_costs_no_encoding(fake: FakeEncoder, tmp_path: Path) -> None:
    # A chunk has 64 * (16 + 2 * 64) bytes and a header, the matrix 200 * 128.
    def without_room() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (12_000, 12_000))
        with pytest.raises(UserError, match="cannot write"):
            encode_catalogue(TEXTS, [])

    assert in_child(without_room) == 0
    np.testing.assert_array_equal(encode_catalogue(TEXTS, []).items, rows(TEXTS))
    assert fake.encoded == []  # all by the child


def test_a_damaged_chunk_is_encoded_again(fake: FakeEncoder, tmp_path: Path) -> None:
    matrix = Path(str(encode_catalogue(TEXTS, []).items.filename))
    chunk = next(path for path in tmp_path.rglob("*.npy") if path.parent != matrix.parent)
    n_texts = len(np.load(chunk))
    chunk.write_bytes(chunk.read_bytes()[:-1] + b"?")
    matrix.unlink()
    fake.encoded.clear()
    np.testing.assert_array_equal(encode_catalogue(TEXTS, []).items, rows(TEXTS))
    assert len(fake.encoded) == n_texts


def test_reduced_vectors_are_those_of_the_items_components(fake: FakeEncoder) -> None:
    items, queries = ["", *TEXTS], ["", "soap", TEXTS[0]]
    vectors = encode_catalogue(items, queries, Encoder(dimensions=5))
    expected = fit(rows(items), 5)  # of the items alone
    np.testing.assert_array_equal(vectors.items, expected(rows(items)))
    np.testing.assert_array_equal(vectors.queries, expected(rows(queries)))
    assert vectors.projection is not None
    assert vectors.projection.explained == expected.explained
    assert vectors.items.shape == (201, 5)


def test_reduced_vectors_are_kept_and_new_queries_get_the_same_projection(
    fake: FakeEncoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = encode_catalogue(TEXTS, ["soap"], Encoder(dimensions=5))
    fake.encoded.clear()
    monkeypatch.setattr(catalogue, "fit", None)  # as it would fail if it were fitted again
    second = encode_catalogue(TEXTS, ["soap", "brush"], Encoder(dimensions=5))
    assert fake.encoded == ["brush"]
    np.testing.assert_array_equal(second.items, first.items)
    np.testing.assert_array_equal(second.queries[0], first.queries[0])


def test_other_items_give_other_components_for_the_same_queries(fake: FakeEncoder) -> None:
    first, second = (encode_catalogue(items, ["soap"], Encoder(dimensions=5)) for items in (TEXTS, TEXTS[:50]))
    assert np.abs(first.queries - second.queries).max() > 0.1


def test_a_projection_that_is_cut_short_is_fitted_again(fake: FakeEncoder, tmp_path: Path) -> None:
    first = encode_catalogue(TEXTS, ["soap"], Encoder(dimensions=5))
    (path,) = tmp_path.rglob("*.safetensors")
    path.write_bytes(path.read_bytes()[:-1])
    second = encode_catalogue(TEXTS, ["soap"], Encoder(dimensions=5))
    assert first.projection is not None
    assert second.projection is not None
    np.testing.assert_array_equal(first.projection.basis, second.projection.basis)


def test_the_bundled_encoder_gives_what_it_gives_in_memory(tmp_path: Path) -> None:
    texts = ["a shampoo for dry hair", "", "repair manual of a diesel engine"]
    vectors = encode_catalogue(texts, texts[:1], cache_dir=tmp_path)
    np.testing.assert_array_equal(vectors.items, encode_texts(texts))


def test_a_cache_that_cannot_be_written_is_named_with_the_way_out(fake: FakeEncoder, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(UserError, match=r"file.*SYNERGEN_CACHE"):
        encode_catalogue(TEXTS, [], cache_dir=tmp_path / "file")
