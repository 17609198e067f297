"""What tuning may change of a model: the `search` section of its configuration."""

from collections.abc import Collection, Mapping
from dataclasses import replace
from typing import Any

from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution

from baselines.registry import settings_type
from benchmarks.plan import complete_values, scales
from synergen.errors import UserError, unknown_name
from synergen.runs import RunSpec
from synergen.settings import from_mapping, written_out
from synergen.training.trainer import TrainingConfig

Space = dict[str, BaseDistribution]
"""What is searched, by the place of each value: settings.KEY or training.KEY."""

_FORMS = ({"low", "high"}, {"low", "high", "log"}, {"choices"})
_FIXED_BY_PROTOCOL = "settings.max_history"
_PAPER_NAMES = {"tau": "temperature", "lambda": "lambda_pair"}


def search_space(
    section: Mapping[str, Any], base: RunSpec, fixed: Collection[str], only: Collection[str] | None, where: str
) -> Space:
    """The space around a run. The run's own values lie in it: a range that leaves one out is widened.

    Args:
        section: by place, `[low, high]`, `{low, high, log}` or `{choices}`. With `when: {place: value}`, a place is
            searched only where the run has that value, since its loss reads it only then.
        fixed: places that are not searched.
        only: places or short names (`hidden_dropout`, `tau`) to search; None for all.

    Raises:
        UserError: an unknown place or name, a range that is none or has an end that makes no model, a place that the
            protocol or the scale fixes, one asked for that the run does not read, or nothing left to search.
    """
    values = placed(complete_values(base))
    for place in (*section, *(place for given in section.values() for place in conditions(given))):
        if place not in values:
            raise unknown_name("place", place, values, where=where)
    for place in {_FIXED_BY_PROTOCOL, *(f"training.{key}" for scale in scales().values() for key in scale)} & {
        *section
    }:
        raise UserError(f"{where}: {place} is the same for all models, by the protocol or the scale; take it out")
    ranges = {place: _distribution(given, values[place], f"{where}, {place}") for place, given in section.items()}
    for place, distribution in ranges.items():
        for end in _ends(distribution):
            changed(base, {place: end})
    chosen = set(ranges) if only is None else {_place(name, ranges, where) for name in only}
    space: Space = {}
    for place in (place for place in ranges if place in chosen and place not in fixed):
        unmet = {at: wanted for at, wanted in conditions(section[place]).items() if values[at] != wanted}
        if not unmet:
            space[place] = ranges[place]
        elif only is not None:
            wanted = ", ".join(f"{at}={value}" for at, value in unmet.items())
            raise UserError(f"{where}: {place} is read with {wanted} only; add --set {wanted} or leave {place} out")
    if not space:
        raise UserError(f"{where}: nothing to search for {base.model} here; add to its `search` section")
    return space


def conditions(given: Any) -> dict[str, Any]:
    """By place, the values that a run must have for a place to be searched."""
    return given.get("when", {}) if isinstance(given, dict) else {}


def changed(base: RunSpec, values: Mapping[str, Any]) -> RunSpec:
    """The run with other values at some places.

    Raises:
        UserError: they make no model or no training.
    """
    parts: dict[str, dict[str, Any]] = {"settings": dict(base.settings), "training": dict(base.trainer)}
    for place, value in values.items():
        part, _, key = place.partition(".")
        parts[part][key] = value
    settings: Any = from_mapping(settings_type(base.model), parts["settings"], f"settings of {base.model}")
    training = from_mapping(TrainingConfig, parts["training"], f"training of {base.model}")
    return replace(base, settings=written_out(settings), trainer=written_out(training) if base.trainer else {})


def placed(sections: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Values by place, from values by section and key."""
    return {f"{part}.{key}": value for part, values in sections.items() for key, value in values.items()}


def _distribution(given: Any, present: Any, where: str) -> BaseDistribution:
    """A range, wide enough for the present value."""
    form = dict(zip(("low", "high"), given, strict=False)) if isinstance(given, list) else given
    if not isinstance(form, dict) or set(form) - {"when"} not in _FORMS:
        raise UserError(f"{where}: {given!r} is no range; write [low, high], {{low, high, log}} or {{choices}}")
    if "choices" in form:
        return CategoricalDistribution(list(dict.fromkeys([*form["choices"], present])))
    numbers = (form["low"], form["high"], present)
    if any(isinstance(number, bool) or not isinstance(number, int | float) for number in numbers):
        raise UserError(f"{where}: low, high and the present value ({present!r}) must be numbers; or list choices")
    low, high, log = min(numbers), max(numbers), form.get("log", False)
    if form["low"] >= form["high"] or (log and low <= 0):
        raise UserError(f"{where}: low must be less than high{' and, like the present value, above 0' * log}")
    kind = IntDistribution if isinstance(present, int) else FloatDistribution
    return kind(low, high, log=log)


def _ends(distribution: BaseDistribution) -> tuple[Any, ...]:
    if isinstance(distribution, CategoricalDistribution):
        return distribution.choices
    assert isinstance(distribution, IntDistribution | FloatDistribution)
    return distribution.low, distribution.high


def _place(name: str, ranges: Mapping[str, Any], where: str) -> str:
    """The place that a person means by its whole or short name, or by the paper's Greek letter."""
    short = {place.partition(".")[2]: place for place in ranges}
    known = {**short, **{greek: short[key] for greek, key in _PAPER_NAMES.items() if key in short}}
    if name in ranges:
        return name
    if name not in known:
        raise unknown_name("parameter", name, known, where=f"{where}, search")
    return known[name]
