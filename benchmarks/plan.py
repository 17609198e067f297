"""From a table to its runs: which model, with which settings, under which protocol."""

import re
from collections.abc import Mapping, Set
from dataclasses import asdict, fields
from functools import lru_cache
from pathlib import Path
from typing import Any

import yaml

from baselines.registry import MODELS, model_class, settings_type, tasks_of
from benchmarks.references import knows_truth
from benchmarks.spec import Spec
from benchmarks.views import has_slates
from synergen.errors import UserError, unknown_name
from synergen.runs import RunSpec
from synergen.settings import from_mapping, written_out
from synergen.training.trainer import TrainingConfig

_FOLDER = Path(__file__).resolve().parent
_SECTIONS = ("settings", "training")
_LAYERS = ("searches", "scales", "datasets")
_TUNED = (*_SECTIONS, "fixed", "task", "candidates", "trials", "scale", "study", "confirmed")


@lru_cache
def read_yaml(path: Path) -> dict[str, Any]:
    """A YAML file as a mapping."""
    loaded = yaml.safe_load(path.read_text(encoding="utf-8"))
    if not isinstance(loaded, dict):
        raise UserError(f"{path}: a mapping is expected at the top")
    return loaded


def scales() -> dict[str, Any]:
    """The scales by name: what they fix for every model alike."""
    return read_yaml(_FOLDER / "specs" / "scales.yaml")


def model_file(model: str) -> Path:
    """The configuration of a model by hand."""
    return _FOLDER / "configs" / f"{model}.yaml"


def tuned_file(model: str, dataset: str, task: str, candidates: str) -> Path:
    """Where benchmarks/tune.py keeps what it found for a model on a data set, trained for a task and ranked among such
    candidates."""
    return _FOLDER / "tuned" / dataset / f"{model}.{task}.{candidates}.yaml"


def model_config(
    model: str, dataset: str, scale: str, tuned: Mapping[str, Any] | None = None, searches: bool = False
) -> dict[str, dict[str, Any]]:
    """Settings and training of a model: its defaults, then those for searches, then the scale's, then the data set's,
    then the tuned ones (later ones win), and last what the scale fixes for all models.

    Args:
        searches: whether the protocol makes searches of some events.
        tuned: what a search found, if it is to count.

    Raises:
        UserError: an unknown scale or model, or an unknown key in the model's files.
    """
    if scale not in scales():
        raise unknown_name("scale", scale, scales())
    kind = settings_type(model)
    path = model_file(model)
    content = read_yaml(path)
    own = content.get("datasets", {})
    family = re.sub(r"-\d+k?$", "", dataset)  # sessions, of any size
    layers = [
        content,
        content.get("searches", {}) if searches else {},
        content.get("scales", {}).get(scale, {}),
        own.get(dataset, own.get(family, {})),
    ]
    known = (*_SECTIONS, *_LAYERS, "search")
    for key in content:
        if key not in known:
            raise unknown_name("key", key, known, where=str(path))
    if tuned:
        layers.append(dict(tuned))
        path = tuned_file(model, dataset, tuned["task"], tuned["candidates"])
    merged: dict[str, dict[str, Any]] = {section: {} for section in _SECTIONS}
    for layer in layers:
        for section in _SECTIONS:
            merged[section] |= layer.get(section, {})
    merged["training"] |= scales()[scale]
    from_mapping(kind, merged["settings"], f"{path}, settings")
    from_mapping(TrainingConfig, merged["training"], f"{path}, training")
    return merged


def _tuned(model: str, dataset: str, task: str, candidates: str, scale: str) -> dict[str, Any]:
    """What tuning found for a task among such candidates, or nothing. Where a scale has settings of its own (the
    paper's sizes), values that were found at another scale are of another model and do not count."""
    path = tuned_file(model, dataset, task, candidates)
    if not path.exists():
        return {}
    found = read_yaml(path)
    if set(found) != set(_TUNED):
        raise UserError(f"{path}: the keys must be {', '.join(_TUNED)}; write it again by benchmarks/tune.py --save")
    if (found["task"], found["candidates"]) != (task, candidates):
        raise UserError(f"{path} is of task {found['task']} and candidates {found['candidates']}; name it after them")
    own_settings = read_yaml(model_file(model)).get("scales", {})
    fits = own_settings.get(scale) == own_settings.get(found["confirmed"] or found["scale"])
    return found if fits else {}


def complete_values(spec: RunSpec) -> dict[str, dict[str, Any]]:
    """The settings and training of a run, with those that it leaves out because they are at their defaults."""
    settings: Any = from_mapping(settings_type(spec.model), spec.settings, f"settings of {spec.model}")
    training = from_mapping(TrainingConfig, spec.trainer, f"training of {spec.model}")
    return {"settings": asdict(settings), "training": asdict(training)}


def tuning_of(spec: RunSpec, scale: str, named: Set[str] = frozenset()) -> dict[str, Any] | None:
    """What a record says of the search for its run's settings; None where the run has not the values found.

    Args:
        named: settings that a table's row names itself, whatever was found for them; not all that was found.
    """
    if spec.model not in MODELS:
        return None
    found = _tuned(spec.model, spec.dataset, spec.task, spec.protocol["candidates"], scale)
    if not found:
        return None
    values = complete_values(spec)
    left = {section: dict(found[section]) for section in _SECTIONS}
    left["settings"] = {key: value for key, value in found["settings"].items() if key not in named}
    if not any(left.values()) or not _holds(found["fixed"], values) or not _holds(left, values):
        return None
    return {key: found[key] for key in ("trials", "scale", "study", "confirmed") if found[key] is not None}


def _holds(some: Mapping[str, Mapping[str, Any]], values: Mapping[str, Mapping[str, Any]]) -> bool:
    """Whether these values, by section and key, are among the others."""
    return all(own.items() <= values[section].items() for section, own in some.items())


def make_run(
    model: str,
    task: str,
    overrides: Mapping[str, Any],
    protocol: Mapping[str, Any],
    dataset: str,
    scale: str,
    seed: int,
    training_overrides: Mapping[str, Any] | None = None,
    by_hand: bool = False,
) -> RunSpec:
    """A run of a registered model, the overrides on top of its configuration (without what tuning found, if `by_hand`).
    Defaults are written out, so that a run's id and record hold every value that it depends on."""
    found = {} if by_hand else _tuned(model, dataset, task, protocol["candidates"], scale)
    kind = settings_type(model)

    def made(tuned: Mapping[str, Any]) -> RunSpec:
        config = model_config(model, dataset, scale, tuned, protocol.get("search_share", 0) > 0)
        settings = config["settings"] | dict(overrides)
        if "max_history" in {field.name for field in fields(kind)}:
            settings["max_history"] = protocol["max_history"]
        full_settings = written_out(from_mapping(kind, settings, f"settings of {model}"))
        training = config["training"] | dict(training_overrides or {})
        trainer = written_out(from_mapping(TrainingConfig, training, f"training of {model}"))
        learns = model_class(model).learns
        return RunSpec(model, dataset, task, seed, full_settings, trainer if learns else {}, dict(protocol))

    run = made(found)
    return run if not found or _holds(found["fixed"], complete_values(run)) else made({})


def plan(spec: Spec, dataset: str, scale: str, seeds: int, only: list[str] | None) -> dict[str, list[RunSpec]]:
    """The runs of every row that can run, by method.

    Args:
        only: methods, or models for all of their rows.

    Raises:
        UserError: a name in `only` that is neither a method nor a model of the table.
    """
    truth = has_slates(spec.protocol) and knows_truth(dataset)
    runnable = [row for row in spec.rows if (truth and row.reference) or (row.model in MODELS and not spec.qualitative)]
    if only is not None:
        methods = {row.method for row in spec.rows}
        names = methods | {row.subject for row in spec.rows if row.subject}
        for name in only:
            if name not in names:
                raise unknown_name("model", name, names, where=f"table {spec.number}")
        models = set(only) - methods  # a name of both is the method's
        runnable = [row for row in runnable if row.method in only or row.subject in models]
    runs: dict[str, list[RunSpec]] = {}
    for row in runnable:
        if row.reference:  # nothing is drawn, so one seed is all
            runs[row.method] = [RunSpec(row.reference, dataset, row.task, 0, {}, {}, dict(spec.protocol))]
            continue
        assert row.model is not None  # it is in the registry
        runs[row.method] = [
            make_run(row.model, row.task, row.settings, spec.protocol, dataset, scale, seed, row.training)
            for seed in range(seeds)
        ]
    return runs


def registry_tasks() -> dict[str, frozenset[str]]:
    """The tasks that each registered model serves."""
    return {name: frozenset(map(str, tasks_of(name))) for name in MODELS}
