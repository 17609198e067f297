"""The formulae of a step's cost against what torch counts on small models."""

from typing import Any

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode
from transformers import LlamaModel

from baselines.hllm.cost import Shape, kept_by_layer, step_cost
from baselines.hllm.language_models import TINYLLAMA, model_config
from baselines.hllm.settings import HLLMSettings

SMALL = HLLMSettings(width=64, layers=2, heads=4, kv_heads=2, ffn_width=172, max_tokens=15, max_history=7, negatives=4)
BATCH = 3
EVENTS, TEXTS, TOKENS = 3 * 8, 3 * 8 + 4, 16


def llama() -> LlamaModel:
    config = model_config("small", SMALL)
    config._attn_implementation = "sdpa"
    return LlamaModel(config)


def test_flops_are_what_torch_counts() -> None:
    """Item model over 28 texts of 16 tokens, user model over 3 sequences of 8 events; torch takes attention for square,
    which is 2 % here, and does not count the causal half that is left out."""
    model = llama()
    inputs = [torch.randn(TEXTS, TOKENS, 64, requires_grad=True), torch.randn(BATCH, 8, 64, requires_grad=True)]
    with FlopCounterMode(display=False) as counter:
        for part in inputs:
            model(inputs_embeds=part, use_cache=False).last_hidden_state.sum().backward()
    assert step_cost(SMALL, BATCH, 4).flops == pytest.approx(counter.get_total_flops(), rel=0.04)


def test_activations_are_what_the_backward_pass_keeps() -> None:
    """Numbers of the tensors that autograd saves, views of one storage once, without the weights."""
    model = llama()
    weights = {parameter.untyped_storage().data_ptr() for parameter in model.parameters()}
    saved: dict[int, tuple[int, Any]] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            saved[storage.data_ptr()] = (storage.nbytes() // tensor.itemsize, tensor)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        model(inputs_embeds=torch.randn(TEXTS, TOKENS, 64, requires_grad=True), use_cache=False)
    counted = sum(numbers for numbers, _ in saved.values())
    assert TEXTS * TOKENS * SMALL.layers * kept_by_layer(Shape.of(model.config)) == pytest.approx(counted, rel=0.15)


def test_a_step_adds_items_and_users() -> None:
    """By hand: 28 texts of 16 tokens and 24 events, 8 · 64 + 2 · 32 + 4 · 172 = 1,264 numbers of 2 bytes, 2 layers."""
    assert kept_by_layer(Shape.of(model_config("small", SMALL))) == 1264
    assert step_cost(SMALL, BATCH, 2).activation_bytes == 2 * (28 * 16 + 24) * 2 * 1264
    more = step_cost(SMALL, 2 * BATCH, 2)
    assert more.flops > step_cost(SMALL, BATCH, 2).flops


def test_checkpointing_trades_memory_for_a_forward_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    """Four passes in place of three; 8,192 tokens of 22 layers whatever the batch."""
    sizes: dict[str, Any] = {"item_model": TINYLLAMA, "user_model": TINYLLAMA}
    plain, again = (step_cost(HLLMSettings(**sizes, gradient_checkpointing=on), 8, 2) for on in (False, True))
    assert again.flops == pytest.approx(plain.flops * 4 / 3)
    numbers = 8 * 2048 + 2 * 256 + 4 * 5632
    assert again.activation_bytes == 2 * 8192 * 22 * numbers
    assert plain.activation_bytes == 2 * 22 * numbers * ((8 * 51 + 512) * 257 + 8 * 51)


def test_only_the_trained_layers_of_minilm_cost() -> None:
    """Forward: 2 (4 · 384² + 2 · 384 · 1536) for the matrices of a layer and 4 · 16 · 384 for attention, both ways."""
    one, two = (HLLMSettings(item_model="minilm", trained_layers=n, max_tokens=15, negatives=4) for n in (1, 2))
    layer = 2 * (4 * 384**2 + 2 * 384 * 1536) + 4 * 16 * 384
    tokens = (BATCH * 51 + 4) * 16
    assert step_cost(two, BATCH, 2).flops - step_cost(one, BATCH, 2).flops == 3 * tokens * layer
