"""Dropout that costs a CPU one random byte an element."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class Dropout(nn.Module):
    """Zero each element with probability `p` in training, and scale the rest so that the mean stays.

    Drawing one Bernoulli number an element takes a CPU a quarter of a training step; bytes cut from 64-bit numbers
    take a tenth of that. There, p is rounded to the nearest 1/256. Other devices use torch's own dropout.
    """

    def __init__(self, p: float) -> None:
        super().__init__()
        self.p = p

    def forward(self, x: Tensor) -> Tensor:
        """`x`, some of it zeroed."""
        if not self.training or self.p == 0:
            return x
        if x.device.type != "cpu":
            return F.dropout(x, self.p)
        dropped = min(round(self.p * 256), 255)
        n = x.numel()
        words = torch.randint(-(2**63), 2**63 - 1, (-(-n // 8),))
        random_bytes = words.view(torch.uint8)[:n].view(x.shape)
        return x * (random_bytes >= dropped).to(x.dtype).mul_(256 / (256 - dropped))

    def extra_repr(self) -> str:
        return f"p={self.p}"
