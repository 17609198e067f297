"""A block of the SASRec in HSTU's repository, written out from its definition."""

import math
from collections.abc import Callable

import torch
from torch.nn import functional as F

from baselines.meta_sasrec import MetaSASRec
from synergen.contract import DataView


def test_a_block_is_the_one_written_out(make_view: Callable[..., DataView]) -> None:
    """y = LN(Q + softmax(Q Wq (x Wk)ᵀ / √d) x Wv Wo), Q = LN(x); then y + W₂ relu(W₁ y), all with biases."""
    torch.manual_seed(0)
    model = MetaSASRec(make_view(), width=8, layers=1, heads=2, ffn_width=6, max_history=5).double().eval()
    block = model.blocks[0]
    for weights in block.parameters():
        torch.nn.init.normal_(weights, std=0.5)
    x, times = torch.randn(1, 4, 8, dtype=torch.float64), torch.zeros(1, 4)
    attention = block.attention
    query = F.layer_norm(x[0], (8,), eps=1e-8)
    by_part = zip((query, x[0], x[0]), attention.in_proj_weight.chunk(3), attention.in_proj_bias.chunk(3), strict=True)
    q, k, v = (source @ weights.T + bias for source, weights, bias in by_part)  # (T, D)
    heads = []
    for m in (slice(0, 4), slice(4, 8)):
        logits = q[:, m] @ k[:, m].T / math.sqrt(4)
        heads.append(logits.masked_fill(torch.ones(4, 4).triu(1) > 0, -math.inf).softmax(-1) @ v[:, m])
    y = F.layer_norm(query + attention.out_proj(torch.cat(heads, dim=-1)), (8,), eps=1e-8)
    expected = y + block.ffn[3](block.ffn[0](y).relu())
    torch.testing.assert_close(model.states(x, times, times)[0], expected, rtol=1e-10, atol=1e-12)


def test_blocks_begin_as_the_authors(make_view: Callable[..., DataView]) -> None:
    """Positions √(1 / D) cut at two deviations (x 0.88), matrices √(2 / (fan in + fan out)), attention's biases 0."""
    torch.manual_seed(0)
    model = MetaSASRec(make_view())
    block = model.blocks[0]
    found = [model.positions, block.attention.in_proj_weight, block.attention.out_proj.weight, block.ffn[0].weight]
    expected = [0.88 / math.sqrt(50), math.sqrt(2 / 200), math.sqrt(2 / 100), math.sqrt(2 / 100)]
    # 2,500 numbers or more: their deviation is known to 1.4%, and four of those are 6%.
    torch.testing.assert_close(torch.stack([one.std() for one in found]), torch.tensor(expected), rtol=0.06, atol=0)
    assert not block.attention.in_proj_bias.any()
    assert not block.attention.out_proj.bias.any()
