"""HLLM: its loss against a written-out one, what may see what, and what is kept and forgotten.

Expected values come from definitions (arXiv 2409.12740 and its repository), or from arithmetic beside the test.
"""

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.testing import assert_close
from transformers import LlamaConfig, LlamaModel

import baselines.hllm.model as hllm
from baselines.hllm.language_models import TINYLLAMA, location, tokenizer
from baselines.hllm.model import HLLM, nce
from baselines.hllm.settings import HLLMSettings
from synergen.contract import Batch, DataView, Requests, Task
from synergen.errors import UserError

SIZES: dict[str, Any] = {
    "width": 16, "layers": 1, "heads": 2, "kv_heads": 2, "ffn_width": 32, "max_tokens": 24, "max_history": 8,
    "negatives": 20,
}  # fmt: skip
V = 30


@pytest.fixture(scope="module")
def data(request: pytest.FixtureRequest) -> DataView:
    return request.getfixturevalue("make_view")(V)


@pytest.fixture
def model(data: DataView) -> HLLM:
    torch.manual_seed(0)
    return HLLM(data, **SIZES)


@pytest.fixture
def folder(tmp_path: Path) -> str:
    """A published model on disk: a Llama of width 32, with a tokenizer."""
    torch.manual_seed(3)
    config = LlamaConfig(
        vocab_size=30522, hidden_size=32, num_hidden_layers=1, num_attention_heads=2, intermediate_size=48
    )
    LlamaModel(config).save_pretrained(tmp_path / "llama")
    tokenizer("small").save_pretrained(tmp_path / "llama")
    return str(tmp_path / "llama")


def cosine(left: torch.Tensor, right: torch.Tensor) -> float:
    return float(left @ right / left.norm() / right.norm())


def test_nce_is_the_cross_entropy_written_out() -> None:
    """-log of exp(θ cos⁺) over its sum with exp(θ cos⁻) of every negative, mean over positions."""
    torch.manual_seed(0)
    queries, positives, negatives = torch.randn(4, 6), torch.randn(4, 6), torch.randn(9, 6)
    scale = torch.tensor(7.0)
    terms = []
    for query, positive in zip(queries, positives, strict=True):
        own = math.exp(7 * cosine(query, positive))
        others = sum(math.exp(7 * cosine(query, negative)) for negative in negatives)
        terms.append(-math.log(own / (own + others)))
    assert_close(nce(queries, positives, negatives, scale), torch.tensor(terms).mean())


def test_near_duplicates_of_the_positive_do_not_count() -> None:
    """The positive itself, its multiple and a neighbour (cosine > .99) change nothing; one of cosine .98 does."""
    torch.manual_seed(0)
    queries, positives, negatives = torch.randn(1, 6), torch.eye(6)[:1], torch.randn(5, 6)
    scale = torch.tensor(7.0)
    plain = nce(queries, positives, negatives, scale)

    def at(value: float) -> torch.Tensor:
        other = torch.zeros(1, 6)
        other[0, :2] = torch.tensor([value, math.sqrt(1 - value**2)])
        return other

    same = torch.cat([negatives, positives, 3 * positives, at(0.995)])
    assert_close(nce(queries, positives, same, scale), plain)
    assert nce(queries, positives, torch.cat([negatives, at(0.98)]), scale) > plain


def test_the_temperature_learns_within_its_bounds(model: HLLM, make_batch: Callable[..., Batch]) -> None:
    """θ starts at ln(1 / 0.07) and stays in [0, ln 100], as in the repository."""
    assert model.log_scale.item() == pytest.approx(math.log(1 / 0.07))
    for outside, bound in ((9.0, math.log(100)), (-1.0, 0.0)):
        with torch.no_grad():
            model.log_scale.fill_(outside)
        model.loss(make_batch([[1, 2, 3]]))["nce"].backward()
        assert model.log_scale.item() == pytest.approx(bound)
        assert model.log_scale.grad is not None
        assert model.log_scale.grad != 0


def test_the_loss_reads_what_the_parts_say(
    model: HLLM, make_batch: Callable[..., Batch], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A position is the state after the events before it, its positive the next item's vector."""
    seen: dict[str, torch.Tensor] = {}

    def keep(queries: torch.Tensor, positives: torch.Tensor, negatives: torch.Tensor, scale: torch.Tensor) -> Any:
        seen.update(queries=queries, positives=positives, negatives=negatives)
        return queries.sum()

    monkeypatch.setattr(hllm, "nce", keep)
    batch = make_batch([[4, 2, 7], [5, 1]])
    batch = replace(batch, targets=batch.targets & torch.tensor([[True, False, True], [True, True, True]]))
    model.loss(batch)
    vectors = model.eval()._catalogue_vectors()
    states = model._states(vectors[torch.tensor([[4, 2], [5, 0]])])
    assert_close(seen["queries"], torch.stack([states[0, 1], states[1, 0]]), atol=1e-5, rtol=1e-5)
    assert_close(seen["positives"], vectors[[7, 1]], atol=1e-5, rtol=1e-5)
    assert len(seen["negatives"]) == 20


def test_without_a_number_there_is_a_negative_for_each_place(
    data: DataView, make_batch: Callable[..., Batch], monkeypatch: pytest.MonkeyPatch
) -> None:
    """2 sequences padded to 4 events: 8. In HLLM's larger setting 512 sequences of 56 events: 28,672."""
    counts = []
    monkeypatch.setattr(hllm, "nce", lambda queries, _, negatives, __: counts.append(len(negatives)) or queries.sum())
    HLLM(data, **SIZES | {"negatives": 0}).loss(make_batch([[4, 2, 7, 9], [5, 1]]))
    assert counts == [8]
    assert 512 * 56 == 28_672
    assert HLLM.trained_against({"negatives": 0}) == "one a place of the batch, shared"
    assert HLLM.trained_against({"negatives": 512}) == "512 a batch"


def test_a_state_sees_neither_later_events_nor_padding(model: HLLM) -> None:
    torch.manual_seed(0)
    sequences = torch.randn(2, 6, 16)
    changed = torch.cat([sequences[:, :3], torch.randn(2, 3, 16)], dim=1)
    assert_close(model._states(changed)[:, :3], model._states(sequences)[:, :3])
    assert_close(model._states(sequences[:, :3]), model._states(sequences)[:, :3], atol=1e-6, rtol=1e-5)
    assert not torch.allclose(model._states(changed)[:, 3:], model._states(sequences)[:, 3:])


def test_the_catalogue_is_encoded_once_until_weights_may_change(
    model: HLLM, make_requests: Callable[..., Requests], monkeypatch: pytest.MonkeyPatch
) -> None:
    encoded: list[int] = []
    encode = model._encode
    monkeypatch.setattr(model, "_encode", lambda items: encoded.append(len(items)) or encode(items))
    asked = make_requests([[1, 2], [3]], Task.RECOMMENDATION)
    model.eval()
    with torch.inference_mode():
        before = model.score(asked, torch.arange(1, V + 1))
    model.user_vectors(asked).sum().backward()  # outside inference, from what was made inside
    assert encoded == [V + 1]
    model.train().eval().item_vectors()
    assert encoded == [V + 1] * 2
    other = {name: torch.randn_like(tensor) for name, tensor in model.state_dict().items()}
    model.load_state_dict(other)
    assert not torch.allclose(model.score(asked, torch.arange(1, V + 1)), before)
    assert encoded == [V + 1] * 3


def test_items_without_text_stay_apart(data: DataView) -> None:
    blank = replace(data, item_texts=[""] * (V + 1))
    for sizes in (SIZES, SIZES | {"item_model": "minilm"}):
        vectors = HLLM(blank, **sizes).eval().item_vectors()
        assert len(vectors[1:].round(decimals=4).unique(dim=0)) == V


def test_checkpointing_changes_no_gradient(data: DataView, make_batch: Callable[..., Batch]) -> None:
    gradients = []
    for checkpointing in (False, True):
        torch.manual_seed(0)
        model = HLLM(data, **SIZES, gradient_checkpointing=checkpointing)
        model.loss(make_batch([[4, 2, 7], [5, 1]]))["nce"].backward()
        gradients.append([parameter.grad for parameter in model.parameters()])
    for plain, again in zip(*gradients, strict=True):
        assert_close(again, plain)


def test_minilm_trains_under_bf16(data: DataView, make_batch: Callable[..., Batch]) -> None:
    """The widths differ, so that a projection trains, too."""
    torch.manual_seed(0)
    model = HLLM(data, **SIZES, item_model="minilm")
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = model.loss(make_batch([[4, 2, 7], [5, 1]]))["nce"]
    loss.backward()
    assert loss.dtype == torch.float32
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())
    assert model.project.weight.shape == (16, 384)


def test_a_folder_gives_weights_or_only_its_shape(data: DataView, folder: str) -> None:
    saved = LlamaModel.from_pretrained(folder)
    named = {**SIZES, "item_model": folder, "user_model": folder}
    weight = "layers.0.mlp.up_proj.weight"
    for pretrained in (True, False):
        model = HLLM(data, **named, pretrained=pretrained)
        for llm in (model.items.llm, model.user):
            assert torch.equal(llm.get_parameter(weight), saved.get_parameter(weight)) is pretrained
        assert isinstance(model.project, torch.nn.Identity)
        assert model.eval().item_vectors().shape == (V + 1, 32)


def test_what_is_missing_is_named(data: DataView, folder: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"cannot load the tokenizer of the language model '.*nothing'.*Name 'small'"):
        HLLM(data, **SIZES, item_model=str(tmp_path / "nothing"))
    with pytest.raises(UserError, match=r"cannot load the configuration of the language model '.*nothing'"):
        HLLM(data, **SIZES, user_model=str(tmp_path / "nothing"))
    (Path(folder) / "model.safetensors").unlink()
    with pytest.raises(UserError, match="cannot load the weights"):
        HLLM(data, **SIZES, item_model=folder)


def test_a_model_that_is_not_causal_is_refused(data: DataView) -> None:
    with pytest.raises(UserError, match="is a model of type 'bert'; a causal one"):
        HLLM(data, **SIZES, user_model=location("minilm"))


def test_impossible_settings_are_refused() -> None:
    for wrong, message in (
        ({"user_model": "minilm"}, "reads both ways"),
        ({"width": 30, "heads": 4}, "width is 30; it must be a multiple of heads, which is 4"),
        ({"width": 12, "heads": 4}, "a head is 3 wide"),
        ({"heads": 4, "kv_heads": 3}, "heads is 4; it must be a multiple of kv_heads"),
        ({"max_tokens": 0}, "1 or more"),
        ({"negatives": -1}, "0 or more"),
    ):
        with pytest.raises(UserError, match=message):
            HLLMSettings(**wrong)


def test_items_beyond_the_catalogue_and_too_long_sequences_are_refused(
    model: HLLM, make_batch: Callable[..., Batch], make_requests: Callable[..., Requests]
) -> None:
    with pytest.raises(UserError, match="item 31 and the model knows items 1 to 30"):
        model.loss(make_batch([[1, 31]]))
    with pytest.raises(UserError, match="item 99"):
        model.eval().user_vectors(make_requests([[1, 99]], Task.RECOMMENDATION))
    with pytest.raises(UserError, match="sequences of 10 events and the model reads 8"):
        model.loss(make_batch([list(range(1, 11))]))


def test_the_paper_s_size_counts_the_published_parameters(data: DataView) -> None:
    """TinyLlama has 1,100,048,384 parameters. Without its output layer of 32,000 × 2,048 = 65,536,000 the item model
    has 1,034,512,384, [ITEM] adds 2,048; without the words, as many again, the user model has 968,976,384; θ is one."""
    with torch.device("meta"):
        model = HLLM(data, item_model=TINYLLAMA, user_model=TINYLLAMA)
    words = 32_000 * 2048
    sizes = {name: sum(p.numel() for p in part.parameters()) for name, part in model.named_children()}
    assert sizes["items"] == 1_100_048_384 - words + 2048
    assert sizes["user"] == 1_100_048_384 - 2 * words
    assert sum(p.numel() for p in model.parameters()) == 2 * 1_100_048_384 - 3 * words + 2048 + 1
    assert all(parameter.is_meta for parameter in model.parameters())
