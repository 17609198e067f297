"""Training the decoder: against the same layers under a dense mask, and against a matrix product."""

import statistics
from collections.abc import Callable, Iterable
from typing import cast

import torch
from torch import Tensor
from torch.nn import functional as F

from benchmarks.figures import made_up
from benchmarks.measure import GEMM_FLOPS, Setting, Value, figure, gemm, median_ratio, near
from synergen.model.decoder import DecoderLayer
from synergen.model.synergen import SynerGen
from synergen.model.task_mask import Kind, task_mask
from synergen.model.time_rope import Rotation, rotate


@figure("x", 2.5, "higher")
def attention_vs_dense(setting: Setting) -> Value:
    """Time of the same layers over all T·(1 + R) tokens at once, the dense task mask given to
    scaled_dot_product_attention, over the time of the decoder, which never builds that mask.

    Forward and backward of two layers, same weights, same inputs, equal outputs (checked before the clock starts):
    B = 4, T = 200 events of as many requests, R = 6 task tokens each, D = 256, 4 heads, feed-forward 1024, no dropout.
    """
    batch, steps, tokens, width, heads = 4, 200, 6, 256, 4
    decoder = made_up.decoder(width, heads)
    context, tasks = torch.randn(batch, steps, width), torch.randn(batch, steps, tokens, width)
    inputs = [context.requires_grad_(), tasks.requires_grad_(), *decoder.parameters()]
    rope = made_up.rope(width, heads)
    of_context, of_tasks = (
        made_up.rotation(rope, batch, steps, 0),
        made_up.rotation(rope, batch, steps, made_up.DAY // 2),
    )
    visible = torch.ones(steps, steps, dtype=torch.bool).tril(-1).expand(batch, -1, -1)  # (B, E, T)

    def ours() -> Tensor:
        outputs = decoder(context, of_context, tasks, of_tasks, visible)
        return torch.cat([outputs[0], outputs[1].flatten(1, 2)], dim=1)  # (B, T·(1 + R), D)

    tokens_rotation = Rotation(
        *(torch.cat([a, b.repeat_interleave(tokens, 1)], 1)[:, None] for a, b in zip(of_context, of_tasks, strict=True))
    )  # (B, 1, T·(1 + R), P)
    allowed = _dense_mask(batch, steps, tokens)[:, None]  # (B, 1, T·(1 + R), T·(1 + R))

    def dense() -> Tensor:
        x = torch.cat([context, tasks.flatten(1, 2)], dim=1)
        for layer in cast(Iterable[DecoderLayer], decoder.layers):
            qkv = layer.qkv(layer.attention_norm(x)).unflatten(-1, (3, heads, -1))  # (B, N, 3, H, D / H)
            query, key, value = qkv.movedim((-3, -2), (0, 2))  # (B, H, N, D / H)
            query, key = rotate(query, *tokens_rotation), rotate(key, *tokens_rotation)
            mixed = F.scaled_dot_product_attention(query, key, value, attn_mask=allowed)
            x = x + layer.out(mixed.transpose(1, 2).flatten(-2))
            x = x + layer.feed_forward(x)
        return decoder.norm(x)

    with torch.no_grad(), setting.autocast():
        tolerance = 0.1 if setting.dtype is torch.bfloat16 else 1e-4
        torch.testing.assert_close(ours(), dense(), atol=tolerance, rtol=0)
    weights = torch.randn(batch, steps * (1 + tokens), width)

    def train(path: Callable[[], Tensor]) -> None:
        with setting.autocast():
            loss = (path() * weights).sum()
        torch.autograd.grad(loss, inputs)

    product, fast, slow = setting.seconds(gemm(setting.dtype), lambda: train(ours), lambda: train(dense))
    pairs = _visible_pairs(batch, steps, steps, tokens)
    useful = 3 * _decoder_flops(batch * steps * (1 + tokens), pairs, 2, width, 4 * width)
    return Value(median_ratio(slow, fast), near(useful, fast, product))


@figure("of GEMM", 0.5, "higher")
def train_flops_of_gemm(setting: Setting) -> Value:
    """Useful FLOP/s of a training step over the FLOP/s of a product of two 2048 x 2048 matrices of the same dtype.

    A step is forward, loss, backward, clipping and AdamW of SynerGen with the layers of the 100M-parameter
    configuration (benchmarks/configs/SynerGen.yaml, scale paper): 2 of its 12 layers, and 2,000 items so that table
    and layers keep about the proportion that they have with a catalogue of 12,000; 16 histories of T = 50 events, all
    of them targets, R = 6 task tokens each. Useful are three times (forward, backward by inputs and by weights) the
    linear layers of decoder and fusion, and the attention pairs that the task mask allows. Losses, normalisations,
    dropout, optimiser and the pairs computed to be masked take time and count for nothing.
    """
    batch, steps, width, ffn_width, layers, negatives = 16, 50, 768, 3072, 2, 4
    torch.manual_seed(0)
    model = SynerGen(
        made_up.catalogue(2000), width=width, heads=12, ffn_width=ffn_width, layers=layers, dropout=0.1,
        embedding_dropout=0.1, inputs="id", ranking_negatives=negatives,
    ).train()  # fmt: skip
    optimiser = torch.optim.AdamW(model.parameters(), lr=1e-4, fused=True)
    data = made_up.training_batch(batch, steps, 2000)

    def step() -> None:
        optimiser.zero_grad(set_to_none=True)
        with setting.autocast():
            terms = model.loss(data)
        torch.stack([term.float() for term in terms.values()]).sum().backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 5.0)
        optimiser.step()

    product, ours = setting.seconds(gemm(setting.dtype), step)
    tokens = 2 + negatives  # R
    n = batch * steps * (1 + tokens)
    useful = 3 * (
        _decoder_flops(n, _visible_pairs(batch, steps, steps, tokens), layers, width, ffn_width)
        + 2 * n * 2 * width**2  # fusion, the two maps that every token takes
    )
    ratios = [useful / step_s / (GEMM_FLOPS / gemm_s) for step_s, gemm_s in zip(ours, product, strict=True)]
    return Value(statistics.median(ratios), near(useful, ours, product))


def _decoder_flops(tokens: int, pairs: int, layers: int, width: int, ffn_width: int) -> int:
    """Of a forward pass: linear layers of all tokens; logits and weighted sums of the attention pairs."""
    return layers * (2 * tokens * width * (4 * width + 2 * ffn_width) + 4 * pairs * width)


def _visible_pairs(batch: int, steps: int, events: int, tokens: int) -> int:
    """Pairs (i, j) of B sequences that the task mask allows, when event e sees the e events before it: context, then
    task tokens on context, on themselves, and ranking tokens on their retrieval token."""
    context = steps * (steps + 1) // 2
    seen = events * (events - 1) // 2
    return batch * (context + tokens * seen + events * (2 * tokens - 1))


def _dense_mask(batch: int, steps: int, tokens: int) -> Tensor:
    """(B, N, N) bool over T context tokens, then T·R task tokens, every event a request of its own."""
    event = torch.cat([torch.arange(steps), torch.arange(steps).repeat_interleave(tokens)]).expand(batch, -1)
    kinds = torch.full((steps, 1 + tokens), Kind.RANKING)
    kinds[:, 0], kinds[:, 1] = Kind.CONTEXT, Kind.RETRIEVAL
    kinds = torch.cat([kinds[:, 0], kinds[:, 1:].flatten()]).expand(batch, -1)
    return task_mask(kinds, event, event, torch.ones_like(event, dtype=torch.bool))
