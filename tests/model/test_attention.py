"""The attention of task tokens: its gradient, which is written by hand."""

import pytest
import torch

from synergen.model.attention import task_attention, task_mask_columns


@pytest.mark.parametrize("tokens", [1, 2, 4])
def test_gradient_is_that_of_finite_differences(tokens: int) -> None:
    # B = 2, H = 2, D / H = 4, T = 3, E = 2; one request of the four sees nothing.
    g = torch.Generator().manual_seed(tokens)
    visible = torch.tensor([[[True, False, False], [True, True, False]], [[False] * 3, [True] * 3]])
    mask = task_mask_columns(visible, tokens, torch.float64)

    def draw(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=g, dtype=torch.float64).requires_grad_()

    of_tasks = [draw(2, 4, tokens, 2, 2) for _ in range(4)]
    of_context = [draw(2, 2, 4, 3) for _ in range(2)]
    assert torch.autograd.gradcheck(lambda *inputs: task_attention(*inputs, mask), (*of_tasks, *of_context))
