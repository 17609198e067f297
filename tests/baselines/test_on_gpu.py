"""Every model on a GPU, where there is one. Expected values: the same weights on the processor."""

import copy
from collections.abc import Callable

import pytest
import torch
from test_contract import CASES, EVERYTHING, HISTORIES, LEARNERS, OBSERVED, SEQUENCES, Case, V

from synergen.contract import Batch, DataView, Requests
from synergen.training.step import make_optimiser, take_step

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")
GPU = "cuda"


@pytest.fixture(scope="module")
def data(request: pytest.FixtureRequest) -> DataView:
    return request.getfixturevalue("make_view")(V)


@pytest.mark.parametrize("case", CASES)
def test_scores_are_those_of_the_processor(
    case: Case, data: DataView, make_batch: Callable[..., Batch], make_requests: Callable[..., Requests]
) -> None:
    OBSERVED[:] = [make_batch(SEQUENCES)]
    model = case.build(data)
    asked, there = make_requests(HISTORIES, case.task), copy.deepcopy(model).to(GPU)
    with torch.inference_mode(), torch.backends.cudnn.flags(allow_tf32=False):
        scores = model.score(asked, EVERYTHING)
        found = there.score(asked.to(GPU), EVERYTHING.to(GPU))
    assert found.device.type == GPU
    torch.testing.assert_close(found.cpu(), scores, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("dtype", [None, torch.bfloat16], ids=["float32", "bfloat16"])
@pytest.mark.parametrize("case", LEARNERS)
def test_training_lowers_the_loss(
    dtype: torch.dtype | None, case: Case, data: DataView, make_batch: Callable[..., Batch]
) -> None:
    model = case.build(data).to(GPU).train()
    optimiser = make_optimiser(model, {"dense": 3e-3, "sparse": 3e-3}, 0.0, False)
    batch = make_batch(SEQUENCES).to(GPU)
    steps = [take_step(model, optimiser, batch, 5.0, dtype) for _ in range(30)]
    assert all(done.taken for done in steps)
    losses = [done.loss for done in steps]
    assert sum(losses[-5:]) < sum(losses[:5])  # of five steps: negatives and masks are drawn anew
