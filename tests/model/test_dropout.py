import pytest
import torch

from synergen.model.dropout import Dropout


@pytest.mark.parametrize("p", [0.1, 0.5])
def test_drops_at_its_rate_and_keeps_the_mean(p: float) -> None:
    # Binomial with 2^18 + 3 draws: the standard deviation of the rate is below 0.001, the rounding of p below 0.002.
    x = torch.ones((1 << 18) + 3)
    out = Dropout(p)(x)
    assert (out == 0).double().mean().item() == pytest.approx(p, abs=0.006)
    assert out.mean().item() == pytest.approx(1, abs=0.01)
    assert len(out.unique()) == 2


def test_evaluation_and_zero_change_nothing_and_the_seed_decides() -> None:
    x = torch.randn(100)
    assert Dropout(0.0)(x) is x
    assert Dropout(0.5).eval()(x) is x
    layer = Dropout(0.5)
    torch.manual_seed(1)
    first, second = layer(x), layer(x)
    torch.manual_seed(1)
    assert torch.equal(first, layer(x))
    assert not torch.equal(first, second)


def test_of_nothing_nothing_is_left() -> None:
    assert Dropout(0.5)(torch.ones(0, 3)).shape == (0, 3)


def test_gradient_is_the_mask() -> None:
    x = torch.ones(1000, requires_grad=True)
    out = Dropout(0.5)(x)
    out.sum().backward()
    assert torch.equal(x.grad, out.detach())
