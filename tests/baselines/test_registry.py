"""Names to models. Expected values: the definition of each entry in the model zoo."""

import subprocess
import sys
from collections.abc import Callable
from dataclasses import fields, is_dataclass

import pytest

from baselines import registry
from synergen.contract import DataView, Task
from synergen.errors import UserError


def test_tasks_are_those_of_the_models() -> None:
    both = {Task.RECOMMENDATION, Task.SEARCH}
    assert registry.tasks_of("Popularity") == both
    assert registry.tasks_of("BM25") == {Task.SEARCH}
    assert registry.tasks_of("SASRec") == registry.tasks_of("BERT4Rec") == {Task.RECOMMENDATION}


def test_unknown_model_names_the_nearest() -> None:
    for ask in (registry.model_class, registry.settings_type, registry.tasks_of):
        with pytest.raises(UserError, match=r"unknown model 'SASRek': did you mean 'SASRec'\?"):
            ask("SASRek")


def test_settings_reach_the_model(make_view: Callable[..., DataView]) -> None:
    model = registry.build("SASRec", make_view(), {"hidden_size": 8, "max_history": 7})
    shapes = {name: tuple(value.shape) for name, value in model.state_dict().items()}
    assert shapes["net.item_embedding.weight"] == (31, 8)
    assert shapes["net.position_embedding.weight"] == (7, 8)


@pytest.mark.parametrize("name", ["SASRec", "BERT4Rec", "Popularity", "BM25"])
def test_settings_are_a_frozen_dataclass_with_defaults(name: str, make_view: Callable[..., DataView]) -> None:
    kind = registry.settings_type(name)
    assert is_dataclass(kind)
    defaults = kind()
    assert registry.build(name, make_view(), {f.name: getattr(defaults, f.name) for f in fields(kind)})


@pytest.mark.parametrize(
    ("name", "settings", "said"),
    [
        ("SASRec", {"hidden_size": 9}, "hidden_size is 9; it must be a multiple of n_heads, which is 2"),
        ("SASRec", {"max_history": 0}, "max_history is 0; it must be 1 or more"),
        ("SASRec", {"hidden_dropout": 1.0}, "hidden_dropout is 1.0; it must be 0 or more, and less than 1"),
        ("BERT4Rec", {"mask_ratio": 1.5}, "mask_ratio"),
        ("BM25", {"b": 2.0}, "b is 2.0; it must be 0 or more, and 1 at most"),
    ],
)
def test_impossible_settings_are_refused(
    name: str, settings: dict[str, float], said: str, make_view: Callable[..., DataView]
) -> None:
    with pytest.raises(UserError, match=said):
        registry.build(name, make_view(), settings)


def test_naming_and_planning_the_models_imports_none_of_them() -> None:
    """Every command and each of its processes does both; transformers alone takes seconds to import."""
    code = (
        "import sys; from baselines.registry import MODELS; import baselines.hllm.cost; heavy = "
        "('recbole', 'bm25s', 'transformers', 'synergen.model.synergen'); "
        "print(len(MODELS), [m for m in heavy if m in sys.modules])"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert out.split(maxsplit=1)[1].strip() == "[]"
    assert int(out.split()[0]) == len(registry.MODELS)
