import pytest

from synergen.errors import UserError
from synergen.model.config import SynerGenConfig


def test_defaults_are_the_papers() -> None:
    # Section 4.3 of the paper: τ = 0.085, α = 0.1, λ = 1.
    config = SynerGenConfig()
    assert (config.temperature, config.alpha, config.lambda_pair) == (0.085, 0.1, 1.0)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("width", 0),
        ("width", 30),
        ("layers", 1.5),
        ("heads", True),
        ("heads", 3),
        ("dropout", 1.0),
        ("embedding_dropout", -0.1),
        ("inputs", "image"),
        ("rope", "none"),
        ("rope_granularity_seconds", 0.0),
        ("rope_max_period", 1.0),
        ("temperature", 0.0),
        ("temperature", float("nan")),
        ("alpha", 1.5),
        ("alpha", "0.1"),
        ("lambda_pair", -1.0),
        ("retrieval_loss", "bpr"),
        ("hard", "random"),
        ("ranking_head", 1),
    ],
)
def test_a_refused_value_names_its_key(key: str, value: object) -> None:
    named = "width" if key == "heads" and value == 3 else key
    with pytest.raises(UserError, match=f"setting '{named}'"):
        SynerGenConfig(**{key: value})  # type: ignore[arg-type]


def test_heads_of_mixed_rope_split_into_whole_pairs() -> None:
    # Heads 6 wide have 3 pairs, which halve only without a remainder under time or position.
    SynerGenConfig(width=12, heads=2, rope="time")
    with pytest.raises(UserError, match="divisible by 4 × heads"):
        SynerGenConfig(width=12, heads=2, rope="mixed")


def test_text_is_needed_unless_items_are_ids() -> None:
    assert [SynerGenConfig(inputs=inputs).needs_text for inputs in ("id", "text", "both")] == [False, True, True]
