"""Whether the numbers of a table can be of one ranking each: the paper's, as printed, and ours."""

from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from benchmarks.spec import Block, RowSpec, Spec
from benchmarks.views import has_slates
from synergen.evaluation.quoted_rows import QuotedRow
from synergen.evaluation.rank_bounds import Measure, Quoted

if TYPE_CHECKING:
    from benchmarks.tables import Row

_AS_PRINTED = 0.5e-4
"""The paper has two decimals, in percent."""
_ROUNDING = 1e-6


def paper_rows(spec: Spec) -> Iterator[QuotedRow]:
    """What the paper prints of each method, by task and by what is ranked."""
    for row in spec.rows:
        for block in spec.blocks:
            printed = {name: value for name, value in spec.paper(row, block).items() if isinstance(value, float)}
            where = f" ({block.name})" if block.name else ""
            for values in _by_ranking(row, block, spec.protocol, printed):
                quoted = {measure: Quoted(value / 100, _AS_PRINTED) for measure, value in values.items()}
                yield QuotedRow(f"{row.method}{where}", quoted, percent=True)


def remarks(spec: Spec) -> Iterator[str]:
    """A line for each row of the paper with impossible numbers."""
    for row in paper_rows(spec):
        if found := row.conflicts():
            reasons = "; ".join(conflict.said(percent=True) for conflict in found)
            yield f"The paper's {row.name} row cannot be of one run: {reasons}."


def refuse_impossible(rows: Iterable["Row"], protocol: Mapping[str, Any]) -> None:
    """Raise RuntimeError where a row of ours is impossible. Slates are left out: their requests have several relevant
    items, for which the bounds do not hold."""
    if has_slates(protocol):
        return
    for row in rows:
        means = {column: one.mean for column, one in row.metrics.items()}
        for values in _by_ranking(row.method, row.block, protocol, means):
            quoted = {measure: Quoted(value, _ROUNDING) for measure, value in values.items()}
            for conflict in QuotedRow(row.method.method, quoted, False, half_ranks=True).conflicts():
                raise RuntimeError(
                    f"internal error: {row.method.method}, {row.block.name or 'all columns'}: "
                    f"{conflict.said(percent=False)}; metrics of one set of ranks cannot be so, please report it with "
                    f"the records of {', '.join(row.runs)}"
                )


def _by_ranking(
    row: RowSpec, block: Block, protocol: Mapping[str, Any], values: Mapping[str, float]
) -> list[dict[Measure, float]]:
    """The numbers of a row by what is ranked: columns of one block may be of several pools of candidates."""
    found: dict[str, dict[Measure, float]] = {}
    for column, value in values.items():
        reading = block.reading(column, row.head, protocol)
        if reading is not None and (measure := Measure.parse(column)):
            found.setdefault(reading[0], {})[measure] = value
    return list(found.values())
