"""Serving: what an encoded history saves, and how ranking grows with the candidates."""

import torch
from torch import Tensor

from benchmarks.figures import made_up
from benchmarks.measure import Setting, Value, figure, median_ratio, milliseconds
from synergen.model.decoder import ContextState
from synergen.model.time_rope import Rotation

SERVED_EVENTS = 200
"""Events of the histories that the serving figures read."""


@figure("x", 50, "higher", torch.float32)
def rank_cached_vs_reencode(setting: Setting) -> Value:
    """Time to rank 1,000 candidates with one full sequence each, over the time with the history encoded once.

    A sequence is the 200 context tokens, the retrieval token and one candidate's ranking token; sequences go through
    the decoder 50 at a time. With the cache the history is encoded once, inside the time, and all candidates are tokens
    of one request. Same decoder (2 layers, D = 256), equal outputs (checked before the clock starts).
    """
    served = _Served(setting)
    tasks = served.tasks(1000)

    def one_by_one() -> Tensor:
        outputs = []
        for chunk in tasks[0, 0, 1:].split(50):
            own = torch.stack([tasks[0, 0, :1].expand(len(chunk), -1), chunk], dim=1)[:, None]  # (50, 1, 2, D)
            outputs.append(served.answer(served.encode(len(chunk)), own)[:, 0, 1])
        return torch.cat(outputs)  # (C, D)

    def cached() -> Tensor:
        return served.answer(served.encode(1), tasks)[0, 0, 1:]

    _check(cached(), one_by_one(), setting)
    slow, fast = setting.seconds(one_by_one, cached)
    return Value(median_ratio(slow, fast), f"{milliseconds(fast)} against {milliseconds(slow)}")


@figure("x", 10, "higher", torch.float32)
def append_vs_reencode(setting: Setting) -> Value:
    """Time to encode 201 events and read the recommendation from the last context token, over the time to append the
    last event to the 200 before, which are cached, and read the same.

    One history, 2 layers, D = 256; equal outputs (checked before the clock starts). The search of the catalogue that
    would follow is the same for both and left out.
    """
    served = _Served(setting)
    state = served.encode(1)

    def anew() -> Tensor:
        return served.encode(1, SERVED_EVENTS + 1).outputs[:, -1]

    def appended() -> Tensor:
        return served.extend(state).outputs[:, -1]

    _check(appended(), anew(), setting)
    times = 20  # one takes less than a millisecond
    slow, fast = setting.seconds(lambda: [anew() for _ in range(times)], lambda: [appended() for _ in range(times)])
    return Value(median_ratio(slow, fast), f"{milliseconds(fast, times)} against {milliseconds(slow, times)}")


@figure("x", 11, "lower", torch.float32)
def rank_candidates_scaling(setting: Setting) -> Value:
    """Time to rank 10,000 candidates over the time to rank 1,000, with one cached history of 200 events."""
    served = _Served(setting)
    state, few, many = served.encode(1), served.tasks(1000), served.tasks(10_000)
    long, short = setting.seconds(lambda: served.answer(state, many), lambda: served.answer(state, few))
    return Value(median_ratio(long, short), f"{milliseconds(long)} against {milliseconds(short)}")


class _Served:
    """A decoder of two layers of D = 256, and one history for it; in float32, as recommendations are computed."""

    def __init__(self, setting: Setting) -> None:
        self.setting = setting
        self.decoder = made_up.decoder(256, 4).to(setting.dtype).requires_grad_(False)
        self.context = torch.randn(1, SERVED_EVENTS + 1, 256, dtype=setting.dtype)
        self.rotation = made_up.rotation(made_up.rope(256, 4), 1, SERVED_EVENTS + 2, 0)

    def tasks(self, candidates: int) -> Tensor:
        """(1, 1, 1 + C, D): a request's retrieval token, and one ranking token for each candidate."""
        generator = torch.Generator().manual_seed(1)
        return torch.randn(1, 1, 1 + candidates, 256, generator=generator).to(self.setting.dtype)

    def encode(self, batch: int, events: int = SERVED_EVENTS) -> ContextState:
        with torch.inference_mode():
            return self.decoder.encode(
                self.context[:, :events].expand(batch, -1, -1), self._rotation(batch, slice(events))
            )

    def extend(self, state: ContextState) -> ContextState:
        last = slice(SERVED_EVENTS, SERVED_EVENTS + 1)
        with torch.inference_mode():
            return self.decoder.extend(state, self.context[:, last], self._rotation(1, last))

    def answer(self, state: ContextState, tasks: Tensor) -> Tensor:
        """Outputs (B, 1, R, D) of a request that sees all of the history."""
        batch, steps = state.outputs.shape[:2]
        visible = torch.ones(batch, 1, steps, dtype=torch.bool)
        with torch.inference_mode():
            return self.decoder.attend(state, tasks, self._rotation(batch, slice(steps, steps + 1)), visible)

    def _rotation(self, batch: int, part: slice) -> Rotation:
        return Rotation(*(angles[:, part].expand(batch, -1, -1) for angles in self.rotation))


def _check(ours: Tensor, reference: Tensor, setting: Setting) -> None:
    """Two ways to one output differ by rounding alone. Outputs are normalised: their size is about one."""
    tolerance = 0.1 if setting.dtype is torch.bfloat16 else 1e-3
    torch.testing.assert_close(ours, reference, atol=tolerance, rtol=0)
