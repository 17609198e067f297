"""Item encoders: an item's vector depends on its text alone, and is what `transformers` itself makes of it.

Expected values are other ways of computing the same: alone, padded on the other side, or by the whole encoder.
"""

from itertools import pairwise

import pytest
import torch
from torch.testing import assert_close
from transformers import AutoModel

import baselines.hllm.items as hllm_items
from baselines.hllm.items import PROMPT, ItemEncoder, ItemLLM, MiniLMItems, packed
from baselines.hllm.language_models import location, tokenizer
from baselines.hllm.settings import HLLMSettings
from synergen.errors import UserError

TEXTS = ["", "red soap", "a very long title of a thing " * 3, "blue soap for hands", "x"]
MAX_TOKENS = 24


@pytest.fixture(scope="module")
def llm() -> ItemLLM:
    torch.manual_seed(0)
    return ItemLLM(TEXTS, HLLMSettings(width=16, heads=2, kv_heads=1, ffn_width=32, max_tokens=MAX_TOKENS))


@pytest.fixture(scope="module")
def exact() -> MiniLMItems:
    """MiniLM with two trained layers, whose frozen states are computed in float32."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(hllm_items, "autocast_dtype", lambda device: None)
        encoder = MiniLMItems(TEXTS, HLLMSettings(item_model="minilm", max_tokens=MAX_TOKENS, trained_layers=2))
        encoder.freeze()
    return encoder


@pytest.fixture(params=["llm", "exact"])
def encoder(request: pytest.FixtureRequest) -> ItemEncoder:
    return request.getfixturevalue(request.param)


def test_an_item_alone_is_the_item_among_others(encoder: ItemEncoder) -> None:
    together = encoder(torch.arange(len(TEXTS)))
    for item in range(len(TEXTS)):
        assert_close(encoder(torch.tensor([item])), together[[item]], atol=1e-5, rtol=1e-5)


def test_the_order_asked_for_is_the_order_given(encoder: ItemEncoder, monkeypatch: pytest.MonkeyPatch) -> None:
    together = encoder(torch.arange(len(TEXTS)))
    monkeypatch.setattr(hllm_items, "TOKENS_AT_ONCE", 30)  # several passes
    order = torch.tensor([3, 1, 4, 2])
    assert_close(encoder(order), together[order], atol=1e-5, rtol=1e-5)


def test_the_prompt_is_what_all_texts_begin_with(llm: ItemLLM) -> None:
    tokens, end = llm.inputs(torch.arange(len(TEXTS)))
    decode = tokenizer("small").decode
    assert decode(llm.prompt) == f"{PROMPT.strip().lower().replace(':', ' :')} title :"
    assert [decode(row[:length]) for row, length in zip(tokens, end, strict=True)][:2] == ["", "red soap"]
    assert len(llm.prompt) + end.max() == MAX_TOKENS  # the long title is cut


def test_texts_that_share_nothing_need_no_prompt(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hllm_items, "_tokens", lambda settings, texts: [[5, 6], [7], [8, 9, 10]])
    settings = HLLMSettings(width=16, heads=2, kv_heads=1, ffn_width=32, max_tokens=MAX_TOKENS)
    apart = ItemLLM(["a", "b", "c"], settings)
    assert len(apart.prompt) == 0
    words = torch.cat([apart.llm.embed_tokens(torch.tensor([8, 9, 10])), apart.item_token[None]])
    expected = apart.llm(inputs_embeds=words[None]).last_hidden_state[:, -1]
    assert_close(apart(torch.arange(3))[2:], expected, atol=1e-6, rtol=1e-5)


def test_padding_on_the_left_gives_the_same(llm: ItemLLM) -> None:
    """The layout of the paper: [ITEM] in the last place of every row, padding before the text and masked."""
    items = torch.arange(len(TEXTS))
    width = MAX_TOKENS + 1
    vectors, mask = torch.zeros(len(TEXTS), width, llm.width), torch.zeros(len(TEXTS), width, dtype=torch.long)
    for item in items.tolist():
        start, length = int(llm.starts[item]), len(llm.prompt) + int(llm.lengths[item])
        own = llm.tokens[start : start + int(llm.lengths[item])]
        words = llm.llm.embed_tokens(torch.cat([llm.prompt, own]))
        vectors[item, -1 - length :] = torch.cat([words, llm.item_token[None]])
        mask[item, -1 - length :] = 1
    positions = torch.arange(width).expand(len(TEXTS), -1)
    states = llm.llm(inputs_embeds=vectors, attention_mask=mask, position_ids=positions).last_hidden_state
    found = llm(items)
    assert_close(found, states[:, -1], atol=1e-5, rtol=1e-5)
    weights = list(llm.parameters())
    expected, gradients = (torch.autograd.grad(x.sin().sum(), weights) for x in (states[:, -1], found))
    for own, reference in zip(gradients, expected, strict=True):
        assert_close(own, reference, atol=1e-4, rtol=1e-4)


def test_minilm_is_the_encoder_of_transformers(exact: MiniLMItems) -> None:
    """Its last hidden states, averaged over the tokens. The states between were rounded to float16: 2^-11 of each."""
    whole = AutoModel.from_pretrained(location("minilm")).eval()
    tokens = tokenizer("minilm")(TEXTS, truncation=True, max_length=MAX_TOKENS, padding=True, return_tensors="pt")
    mask = tokens["attention_mask"][..., None]
    with torch.no_grad():
        expected = (whole(**tokens).last_hidden_state * mask).sum(1) / mask.sum(1)
        found = exact(torch.arange(len(TEXTS)))
    assert_close(found, expected, atol=2e-3, rtol=0)


def test_frozen_layers_are_computed_once(exact: MiniLMItems, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse() -> None:
        raise AssertionError("the frozen layers are computed again")

    monkeypatch.setattr(hllm_items, "minilm", refuse)
    exact(torch.tensor([1, 2])).sum().backward()
    assert exact.frozen.dtype == torch.float16
    assert len(exact.frozen) == exact.lengths.sum()
    assert all(parameter.grad is not None for parameter in exact.parameters())
    assert not any("frozen" in name for name in exact.state_dict())


def test_states_below_the_trained_layers_are_those_of_the_whole_encoder(exact: MiniLMItems) -> None:
    """`transformers` counts the embeddings as hidden state 0: below the top two of six layers is number 4. Rounding to
    float16 costs 2^-11 of a value."""
    whole = AutoModel.from_pretrained(location("minilm")).eval()
    tokens = tokenizer("minilm")([TEXTS[1]], return_tensors="pt")
    with torch.no_grad():
        expected = whole(**tokens, output_hidden_states=True).hidden_states[4][0]
    start, length = int(exact.starts[1]), int(exact.lengths[1])
    assert_close(exact.frozen[start : start + length].float(), expected, atol=1e-4, rtol=2**-11)


def test_texts_are_packed_by_length_within_the_budget() -> None:
    lengths = torch.tensor([5, 3, 9, 3, 4, 40, 1])
    passes = packed(lengths, 12)
    assert sorted(torch.cat(passes).tolist()) == list(range(7))
    assert all(len(p) * int(lengths[p].max()) <= 12 or len(p) == 1 for p in passes)
    assert [int(lengths[p].max()) for p in passes] == sorted(int(lengths[p].max()) for p in passes)
    for left, right in pairwise(passes):  # none could have taken one more
        assert (len(left) + 1) * int(lengths[right[0]]) > 12


def test_minilm_is_not_asked_for_more_than_it_has() -> None:
    for wrong in ({"trained_layers": 7}, {"max_tokens": 513}):
        with pytest.raises(UserError, match="MiniLM has 6 layers and reads 512 tokens"):
            MiniLMItems(TEXTS, HLLMSettings(item_model="minilm", **wrong))
