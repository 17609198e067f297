"""The decoder against the dense mask that it never builds."""

import math
from dataclasses import dataclass

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.testing import assert_close

from synergen.model.decoder import Decoder
from synergen.model.task_mask import Kind, task_mask
from synergen.model.time_rope import Rotation, TimeRope, rotate

WIDTH, HEADS = 8, 2


@dataclass
class Case:
    """Random sequences with R task tokens for every event, padded on the right."""

    context: Tensor  # (B, T, D)
    tasks: Tensor  # (B, T, R, D)
    groups: Tensor  # (B, T)
    valid: Tensor  # (B, T)
    context_rotation: Rotation
    task_rotation: Rotation

    @property
    def visible(self) -> Tensor:
        return (self.groups[:, None, :] < self.groups[:, :, None]) & self.valid[:, None, :]

    def allowed(self) -> Tensor:
        """The dense mask over T context tokens, then T·R task tokens."""
        batch, steps, tokens, _ = self.tasks.shape
        event = torch.arange(steps).expand(batch, -1)
        kind = torch.full((tokens,), Kind.RANKING)
        kind[0] = Kind.RETRIEVAL
        kinds = torch.cat([torch.full_like(event, Kind.CONTEXT), kind.repeat(batch, steps)], dim=1)

        def per_token(values: Tensor) -> Tensor:
            return torch.cat([values, values.repeat_interleave(tokens, dim=1)], dim=1)

        return task_mask(kinds, per_token(event), per_token(self.groups), per_token(self.valid))

    def everywhere(self, parts: tuple[Tensor, Tensor]) -> Tensor:
        """Context (B, T, ·) and task (B, T, R, ·) values of valid tokens, one row each."""
        context, tasks = parts
        return torch.cat([context[self.valid], tasks[self.valid].flatten(0, 1)])


def in_float64(rotation: Rotation) -> Rotation:
    """Task tokens of one event rely on their common rotation being one: float32 has cos² + sin² = 1 to 1e-7 only."""
    angles = torch.atan2(rotation.sin.double(), rotation.cos.double())
    return Rotation(angles.cos(), angles.sin())


def make_case(seed: int, batch: int, steps: int, tokens: int) -> Case:
    g = torch.Generator().manual_seed(seed)
    lengths = torch.randint(1, steps + 1, (batch,), generator=g)
    valid = torch.arange(steps) < lengths[:, None]
    groups = torch.randint(0, 2, (batch, steps), generator=g).cumsum(1) * valid
    times = torch.randint(0, 10**6, (batch, steps), generator=g).cumsum(1) * valid
    rope = TimeRope(WIDTH // HEADS // 2, "mixed", 86_400.0, 2.0, 3650.0)
    positions = torch.arange(steps).expand(batch, -1)
    return Case(
        torch.randn(batch, steps, WIDTH, generator=g, dtype=torch.float64),
        torch.randn(batch, steps, tokens, WIDTH, generator=g, dtype=torch.float64),
        groups,
        valid,
        in_float64(rope(times, positions, times[:, :1])),
        in_float64(rope(times + 12_345, positions + 1, times[:, :1])),
    )


def make_decoder(seed: int = 0) -> Decoder:
    torch.manual_seed(seed)
    return Decoder(WIDTH, layers=2, heads=HEADS, ffn_width=12, dropout=0.0).double()


def run(decoder: Decoder, case: Case) -> tuple[Tensor, Tensor]:
    return decoder(case.context, case.context_rotation, case.tasks, case.task_rotation, case.visible)


def dense_reference(decoder: Decoder, case: Case, attention: list[Tensor] | None = None) -> tuple[Tensor, Tensor]:
    """The same weights over all N = T + T·R tokens at once, every layer masked by the literal matrix; appends the
    attention weights (B, H, N, N) of each layer to `attention`."""
    steps, tokens = case.tasks.shape[1:3]
    x = torch.cat([case.context, case.tasks.flatten(1, 2)], dim=1)  # (B, N, D)
    cos, sin = (
        torch.cat([of_context, of_task.repeat_interleave(tokens, dim=1)], dim=1)[:, None]  # (B, 1, N, P)
        for of_context, of_task in zip(case.context_rotation, case.task_rotation, strict=True)
    )
    allowed = case.allowed()[:, None]  # (B, 1, N, N)
    for layer in decoder.layers:
        q, k, v = layer.qkv(layer.attention_norm(x)).chunk(3, dim=-1)
        q, k, v = (part.unflatten(-1, (HEADS, -1)).transpose(1, 2) for part in (q, k, v))  # (B, H, N, D / H)
        logits = rotate(q, cos, sin) @ rotate(k, cos, sin).transpose(-1, -2) / math.sqrt(WIDTH // HEADS)
        weights = logits.masked_fill(~allowed, -math.inf).softmax(-1)  # (B, H, N, N)
        if attention is not None:
            attention.append(weights)
        mixed = weights @ v
        x = x + layer.out(mixed.transpose(1, 2).flatten(-2))
        x = x + layer.feed_forward(x)
    x = decoder.norm(x)
    return x[:, :steps], x[:, steps:].unflatten(1, (steps, tokens))


cases = st.builds(make_case, st.integers(0, 10**6), st.integers(1, 3), st.integers(1, 7), st.integers(1, 4))


@settings(max_examples=40, deadline=None)
@given(cases)
def test_equals_the_dense_reference_forward_and_gradient(case: Case) -> None:
    decoder = make_decoder()
    inputs = [case.context.requires_grad_(), case.tasks.requires_grad_(), *decoder.parameters()]
    ours, theirs = (case.everywhere(path(decoder, case)) for path in (run, dense_reference))
    assert_close(ours, theirs, atol=1e-10, rtol=1e-10)
    weights = torch.randn(ours.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    gradients, expected = (torch.autograd.grad((out * weights).sum(), inputs) for out in (ours, theirs))
    for gradient, reference in zip(gradients, expected, strict=True):
        assert_close(gradient, reference, atol=1e-9, rtol=1e-9)


def test_equals_the_dense_reference_in_float32() -> None:
    case, decoder = make_case(3, 4, 30, 4), make_decoder().float()
    case.context, case.tasks = case.context.float(), case.tasks.float()
    assert_close(
        case.everywhere(run(decoder, case)), case.everywhere(dense_reference(decoder, case)), atol=1e-5, rtol=0
    )


@settings(max_examples=8, deadline=None)
@given(st.integers(0, 10**6))
def test_tokens_that_are_not_allowed_change_nothing(seed: int) -> None:
    # Exactly: the same bits, and a gradient of exactly zero. Allowed tokens must show the opposite.
    case, decoder = make_case(seed, 1, 5, 3), make_decoder()
    length, tokens = int(case.valid.sum()), case.tasks.shape[2]
    real = torch.cat([case.valid[0], case.valid[0].repeat_interleave(tokens)])
    allowed = case.allowed()[0][real]  # (rows of valid tokens, N)
    before = case.everywhere(run(decoder, case))
    for j in range(allowed.shape[1]):
        context, tasks = case.context.clone(), case.tasks.clone()
        perturbed = context[0, j] if j < 5 else tasks.flatten(1, 2)[0, j - 5]
        perturbed += torch.linspace(1, 3, WIDTH)
        changed = Case(context, tasks, case.groups, case.valid, case.context_rotation, case.task_rotation)
        after = case.everywhere(run(decoder, changed))
        assert ((before != after).any(dim=1) == allowed[:, j]).all()
    case.context.requires_grad_(), case.tasks.requires_grad_()
    outputs = case.everywhere(run(decoder, case))
    assert len(outputs) == length * (1 + tokens)
    weights = torch.linspace(-1, 2, WIDTH, dtype=torch.float64).sin()
    for i, output in enumerate(outputs):
        of_context, of_tasks = torch.autograd.grad(output @ weights, [case.context, case.tasks], retain_graph=True)
        gradient = torch.cat([of_context[0], of_tasks[0].flatten(0, 1)])
        assert ((gradient != 0).any(dim=1) == allowed[i]).all()


@pytest.mark.parametrize("event", [0, 3, 6])
def test_serving_from_a_cached_prefix_equals_training(event: int) -> None:
    # One request with only its visible history, encoded once and asked candidate by candidate.
    case, decoder = make_case(11, 3, 7, 4), make_decoder()
    case.valid = torch.ones_like(case.valid)
    case.groups = torch.tensor([[0, 1, 2, 3, 3, 4, 5]]).expand(3, -1)
    _, outputs = run(decoder, case)
    seen = int(case.visible[0, event].sum())
    rotation = Rotation(*(part[:, :seen] for part in case.context_rotation))
    state = decoder.encode(case.context[:, :seen], rotation)
    of_event = Rotation(*(part[:, event : event + 1] for part in case.task_rotation))
    visible = torch.ones(3, 1, seen, dtype=torch.bool)
    for candidate in range(1, 4):
        tasks = case.tasks[:, event : event + 1, [0, candidate]]
        alone = decoder.attend(state, tasks, of_event, visible)
        assert_close(alone[:, 0], outputs[:, event, [0, candidate]], atol=1e-12, rtol=0)


def test_a_request_without_history_is_finite_forward_and_backward() -> None:
    case, decoder = make_case(5, 2, 3, 2), make_decoder()
    context, tasks = case.context.requires_grad_(), case.tasks.requires_grad_()
    nothing = torch.zeros_like(case.visible)
    _, outputs = decoder(context, case.context_rotation, tasks, case.task_rotation, nothing)
    gradients = torch.autograd.grad(outputs.square().sum(), [context, tasks], allow_unused=True, materialize_grads=True)
    assert all(torch.isfinite(values).all() for values in (outputs, *gradients))
    assert gradients[0].abs().max() == 0


@pytest.mark.parametrize("counts", [[1], [3], [1, 1, 2]])
def test_extending_a_history_equals_encoding_the_whole(counts: list[int]) -> None:
    # No context token sees a later one, so what is appended changes nothing of what is there.
    case, decoder = make_case(7, 3, 9, 2), make_decoder()
    lengths = [9 - sum(counts), *counts]
    contexts = case.context.split(lengths, dim=1)
    rotations = zip(*(angles.split(lengths, dim=1) for angles in case.context_rotation), strict=True)
    first, *others = zip(contexts, (Rotation(*angles) for angles in rotations), strict=True)
    state = decoder.encode(*first)
    for context, rotation in others:
        state = decoder.extend(state, context, rotation)
    whole = decoder.encode(case.context, case.context_rotation)
    assert_close(state.outputs, whole.outputs, atol=1e-12, rtol=0)
    for ours, expected in zip([*state.keys, *state.values], [*whole.keys, *whole.values], strict=True):
        assert_close(ours, expected, atol=1e-12, rtol=0)


@pytest.mark.parametrize("tokens", [1, 3])
def test_weights_equal_the_dense_reference(tokens: int) -> None:
    case, decoder = make_case(13, 2, 6, tokens), make_decoder()
    state = decoder.encode(case.context, case.context_rotation)
    ours = decoder.weights(state, case.tasks, case.task_rotation, case.visible)  # (L, B, H, E, R, T + 2)
    attention: list[Tensor] = []
    dense_reference(decoder, case, attention)
    dense = torch.stack(attention)[..., 6:, :]  # (L, B, H, T·R, N)
    for row in range(6 * tokens):
        event, token = divmod(row, tokens)
        own, retrieval = dense[..., row, 6 + row], dense[..., row, 6 + event * tokens]  # (L, B, H)
        others = torch.stack([own, retrieval * (token > 0)], dim=-1)  # (L, B, H, 2)
        expected = torch.cat([dense[..., row, :6], others], dim=-1)
        real = case.valid[:, event]
        assert_close(ours[:, real, :, event, token], expected[:, real], atol=1e-12, rtol=0)


def test_bfloat16_products_stay_near_float32() -> None:
    # A bfloat16 has eight bits: errors of 2^-9 a rounding, some tens of them on the way to outputs of size one.
    case, decoder = make_case(3, 4, 30, 4), make_decoder().float()
    case.context, case.tasks = case.context.float().requires_grad_(), case.tasks.float().requires_grad_()

    def outputs_and_gradients() -> tuple[Tensor, ...]:
        outputs = case.everywhere(run(decoder, case)).float()
        return outputs, *torch.autograd.grad(outputs.square().sum(), list(decoder.parameters()))

    expected = outputs_and_gradients()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = outputs_and_gradients()
    assert not torch.equal(found[0], expected[0])
    for ours, reference in zip(found, expected, strict=True):
        assert (ours - reference).norm() < 0.05 * reference.norm()
