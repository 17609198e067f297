"""Dropout that costs a CPU one random byte an element."""

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F


class Dropout(nn.Module):
    """Zero each element with probability `p` in training, and scale the rest so that the mean stays.

    Drawing one Bernoulli number an element takes a CPU longer than the matrix products; bytes cut from the 64-bit
    numbers of a fast generator, which torch's seeds, take a hundredth of that. There, p is rounded to the nearest
    1/256. Other devices use torch's own dropout.
    """

    def __init__(self, p: float) -> None:
        super().__init__()
        self.p = p

    def forward(self, x: Tensor) -> Tensor:
        """`x`, some of it zeroed."""
        if not self.training or self.p == 0 or not x.numel():
            return x
        if x.device.type != "cpu":
            return F.dropout(x, self.p)
        dropped = min(round(self.p * 256), 255)
        n = x.numel()
        seed = int(torch.randint(2**63 - 1, ()))
        words = torch.from_numpy(np.random.SFC64(seed).random_raw(-(-n // 8)))
        # Bytes 0 and 1: to convert bools to x's type takes ten times longer.
        kept = words.view(torch.uint8)[:n].view(x.shape).ge_(dropped)
        return x * kept.to(x.dtype).mul_(256 / (256 - dropped))

    def extra_repr(self) -> str:
        return f"p={self.p}"
