"""What a reader must know to judge a table's numbers, a line each."""

import re
from collections.abc import Iterable, Mapping, Sequence, Set
from functools import reduce
from statistics import fmean
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.stats import kendalltau

from baselines.registry import model_class
from benchmarks import consistency
from benchmarks.facts import accelerator_of, of_one_clock, timed_by_clock
from benchmarks.gains import LEVEL
from benchmarks.inputs import reads_text
from benchmarks.plan import tuning_of
from benchmarks.references import ORACLE, POLICY
from benchmarks.views import QUESTIONS_OF_PAIRS, has_slates
from synergen.contract import PairRecommender
from synergen.evaluation.cases import answered, cases
from synergen.evaluation.paired import DRAWS
from synergen.runs import Ranks, Run, RunSpec

_ORDERED_BY = "N@10"

if TYPE_CHECKING:
    from benchmarks.tables import Row, Table


def notes(table: "Table", runs: Sequence[Run], registry_tasks: Mapping[str, frozenset[str]]) -> Iterable[str]:
    """The lines under a table."""
    spec, protocol, dataset, rows = table.spec, table.protocol, table.dataset, table.rows
    if protocol:
        yield _protocol_line(protocol, sorted({row.seeds for row in rows if row.status == "done"}))
    if runs:
        data = runs[0].record["data"]
        scale = next((run.record["scale"] for run in runs if run.record["scale"]), "none")
        yield (
            f"Data: {dataset}, {data['users']:,} users, {data['items']:,} items, {data['events']:,} events, "
            f"sha256 {data['hash'][:12]}. Scale of models and training: {scale}."
        )
        statistics = data.get("statistics", {})
        if protocol["search_share"] and "query rule" in statistics:
            yield (
                f"Queries: {statistics['query rule']}; {100 * statistics['items without a query']:.1f} % of items have "
                f"none, {100 * statistics['test users asked by search']:.1f} % of users are asked by search."
            )
    if spec.paper_dataset not in (None, dataset):
        yield (
            f"Data set is {dataset}, not the paper's {spec.paper_dataset}: levels are not comparable; the paper's "
            "numbers are printed for orientation."
        )
    if any(row.differences for row in rows):
        yield (
            "Differences are paired by seed and by user or request, their intervals made as those above; a sign is "
            "undecided where the 95 % interval holds 0."
        )
    yield from _gain_lines(rows)
    yield from _sample_lines(rows, runs)
    yield from _order_lines(table, runs)
    yield from _gap_lines(rows)
    yield from _calibration_lines(rows, runs)
    yield from _machine_lines(rows, runs)
    yield from _clock_lines(table, runs)
    yield from _audit_lines(runs)
    yield from _text_lines(rows, runs)
    yield from _tuning_lines(rows, runs)
    yield from _short_epoch_lines(rows, runs)
    yield from _window_lines(rows, runs)
    if cut := _cut_short(rows, runs):
        yield f"Training not ended by early stopping, so perhaps too short: {', '.join(cut)}."
    if not spec.qualitative:
        pending = {row.method.method: row.method.subject for row in rows if row.status == "pending"}
        known = {*registry_tasks, ORACLE, POLICY}
        missing = [method for method, subject in pending.items() if subject not in known]
        waiting = [method for method, subject in pending.items() if subject in known]
        if missing:
            yield f"Pending, model not in the registry: {', '.join(missing)}."
        if waiting:
            yield f"Pending, no finished run: {', '.join(waiting)}."
    yield from consistency.remarks(spec)
    yield from spec.remarks


def _protocol_line(protocol: Mapping[str, Any], seeds: Sequence[int]) -> str:
    kept = "unfiltered" if protocol["filter"] == "none" else f"{protocol['filter']} filter of {protocol['min_count']}"
    line = (
        f"Protocol: {protocol['split']} split ({kept}); {_held_out(protocol['split'])}"
        f"histories of up to {protocol['max_history']} events; {_candidates(protocol)}; "
        f"early stopping on validation {_validation(protocol['validation'])}, the test events "
        "read once, after it; rank = 1 + #better + ½·#ties"
    )
    line += f"; text by the frozen encoder {protocol['encoder']}"
    if share := protocol["search_share"]:
        line += f"; {100 * share:.0f} % of events drawn as searches where the log has no queries of its own"
    if not seeds:
        return f"{line}."
    counts = " to ".join(map(str, dict.fromkeys((seeds[0], seeds[-1]))))
    line += f"; seeds: {counts}; ± is the half-width of a 95 % interval"
    several = has_slates(protocol) or protocol["split"].startswith("last-")
    together = ", the requests of a user taken together" if several else ""
    users = f"over users (1.96 standard errors{together})"
    if seeds[-1] == 1:
        return f"{line} {users} and not over seeds, of which there is one."
    line += f" {users} and seeds (t interval), the root of the sum of their squares"
    return f"{line}; over users only where a row has one seed." if seeds[0] == 1 else f"{line}."


def _held_out(split: str) -> str:
    """What a split holds out, where neither its name nor the candidates' description says it."""
    numbers = re.findall(r"[\d.]+", split)
    match split.partition("-")[0]:
        case "last":
            return f"the last {numbers[0]} events of each user test, the {numbers[0]} before them validate; "
        case "point":
            gap = f" unless it falls into the first {numbers[1]} days" if len(numbers) > 1 else ""
            return (
                f"the last {numbers[0]} % of all events by time are the test period, as much before them is the "
                f"validation period, what came earlier trains; each user's last event of a period is asked about{gap}; "
            )
        case "per":
            return "the last feed event and the last search of each user test, the second last of each validate; "
    return ""


def _candidates(protocol: Mapping[str, Any]) -> str:
    match protocol["candidates"]:
        case "full":
            return "all items are candidates, those seen by the user before removed"
        case "slate":
            return (
                "the last two days test, the two before them validate, what came earlier trains in sequences of a "
                "week; requests in which something got the action wanted are asked, and each such item has a rank "
                "among the items that its request showed, for R@300 among all items, none removed"
            )
    return (
        f"candidates are the positive and {protocol['negatives']} items drawn uniformly from those that the user "
        "never touched, the same for every model"
    )


def _validation(metric: str | Mapping[str, str]) -> str:
    if isinstance(metric, str):
        return metric
    return f"{' and '.join(f'{name} of {task}' for task, name in metric.items())} (their mean)"


def _gain_lines(rows: Sequence["Row"]) -> Iterable[str]:
    """What the marks of significance rest on, and which columns each method wins and loses."""
    compared = [row for row in rows if row.gains]
    if not compared:
        return
    yield (
        f"†: better than the best other row of ours, p < {LEVEL}, by a paired randomisation test: each user's "
        f"difference, averaged over the seeds that both rows have, gets {DRAWS:,} random signs; p-values are adjusted "
        "by Holm for all rows and columns of a task and pool; besides, the 95 % bootstrap interval of the difference, "
        "over users and seeds, leaves out 0. Where rows share one seed, this speaks of other users and not of other "
        "trainings. Differences, intervals, effect sizes, and users won and lost are in the csv and json files."
    )
    verdicts: dict[str, list[str]] = {}
    for row in compared:
        verdicts.setdefault(row.method.method, []).extend(gain.verdict for gain in row.gains.values())
    shares = (f"{name} {own.count('won')}, {own.count('lost')} of {len(own)}" for name, own in verdicts.items())
    yield f"Columns won and lost against the best other row in this sense: {'; '.join(shares)}."


def _order_lines(table: "Table", runs: Sequence[Run]) -> Iterable[str]:
    """Whether a pool of random candidates puts the methods into the order of the whole catalogue."""
    own = {run.record["id"]: run.ranks for run in runs}
    pooled = {block.task: block for block in table.spec.blocks if block.reads is None and _ORDERED_BY in block.columns}
    for block in table.spec.blocks:
        if table.protocol.get("candidates") != "pool" or (block.reads or {}).get(_ORDERED_BY, ("",))[0] != "full":
            continue
        among = {"pool": pooled.get(block.task), "full": block}
        reached = [
            _over_shared_questions(
                {
                    row.method.method: [own[run_id][key] for run_id in row.runs if key in own[run_id]]
                    for row in table.rows
                    if row.block == one and row.metrics
                }
            )
            for one, key in ((block_of, (str(block.task), name)) for name, block_of in among.items())
        ]
        common = [method for method in reached[0] if method in reached[1]]
        if len(common) > 1:
            pool, full = ([values[method] for method in common] for values in reached)
            orders = (" > ".join(sorted(common, key=values.__getitem__, reverse=True)) for values in reached)
            yield (
                f"Order by {_ORDERED_BY} in {block.task}, pool of {table.protocol['negatives'] + 1}: "
                f"{'; all items: '.join(orders)} (Kendall's tau-b {kendalltau(pool, full).statistic:.2f})."
            )


def _over_shared_questions(ranks: Mapping[str, Sequence[Ranks]]) -> dict[str, float]:
    """What each method reaches over the questions that all were asked, in the mean over its seeds (ranks of each)."""
    asked = [answered(own[0], _ORDERED_BY)[0] for own in ranks.values()]
    shared = reduce(np.intersect1d, asked) if asked else np.zeros(0)
    return {
        method: fmean(
            float(values[np.isin(questions, shared)].mean())
            for questions, values in (answered(one, _ORDERED_BY) for one in own)
        )
        for method, own in ranks.items()
    }


def _sample_lines(rows: Sequence["Row"], runs: Sequence[Run]) -> Iterable[str]:
    """Methods whose ranks among the whole catalogue are of some users only."""
    own = {run.record["id"]: run for run in runs}
    fewer: dict[str, None] = {}
    for row in rows:
        found = (own[run_id].ranks.get((row.block.task or "", "full")) for run_id in row.runs)
        ranks = next((one for one in found if one is not None), None)
        shown = {name for name, _ in (row.block.reads or {}).values()}
        if ranks is None or "full" not in shown or row.method.model is None:
            continue
        compares_pairs = issubclass(model_class(row.method.model), PairRecommender)
        if compares_pairs and np.isfinite(cases(ranks, "MRR")).sum() == QUESTIONS_OF_PAIRS:
            fewer[row.method.method] = None
    if fewer:
        yield (
            f"Among all items, {', '.join(fewer)} rank for {QUESTIONS_OF_PAIRS:,} test questions drawn at random, the "
            "same for each of them: they compare every item with every request by a network. Their levels there are of "
            "other users than those of the other rows; daggers, verdicts and the order below are of the users of both."
        )


def _gap_lines(rows: Sequence["Row"]) -> Iterable[str]:
    """How much of what can be gained over the logging policy in search MRR the full model gains."""
    searches = [row for row in rows if row.block.task == "search" and "MRR" in row.metrics]
    known = {row.method.reference: row.metrics["MRR"].mean for row in searches if row.method.reference}
    full = [row for row in searches if not (row.method.reference or row.method.settings)]
    if full and len(known) == 2:
        low, high = known[POLICY], known[ORACLE]
        shares = (f"{row.method.method} {100 * (row.metrics['MRR'].mean - low) / (high - low):.0f} %" for row in full)
        yield f"Share of the gap in search MRR between logging policy and oracle that is closed: {', '.join(shares)}."


def _calibration_lines(rows: Sequence["Row"], runs: Sequence[Run]) -> Iterable[str]:
    """Of the rows that are read from the ranking head, means over seeds."""
    read = {run_id for row in rows if row.method.head == "ranking" for run_id in row.runs}
    by_id = {run.record["id"]: run.record for run in runs if run.record["id"] in read}
    kept = [record["calibration"] for record in by_id.values() if "calibration" in record]
    for name in [key for key in (kept[0] if kept else {}) if key != "reliability"]:

        def mean(state: str, value: str, name: str = name) -> float:
            return float(np.mean([calibration[name][state][value] for calibration in kept]))

        floor = away = ""
        if kept[0][name]["floor"]:
            floor = f" (of the true probabilities: {mean('floor', 'log_loss'):.4f})"
            away = (
                f"; against the true probabilities, expected calibration error {mean('raw', 'truth_ece'):.4f}, mean "
                f"absolute error {mean('raw', 'truth_error'):.4f}"
            )
        yield (
            f"Calibration of the ranking head's click probability, {name}, everything shown by test requests: expected "
            f"calibration error {mean('raw', 'ece'):.4f}, with the temperature of the validation part "
            f"{mean('after_temperature', 'ece'):.4f}; log loss {mean('raw', 'log_loss'):.4f}, "
            f"{mean('after_temperature', 'log_loss'):.4f}{floor}{away}."
        )


def _clock_lines(table: "Table", runs: Sequence[Run]) -> Iterable[str]:
    """Methods whose costs are not in seconds of the processor."""
    by_id = {run.record["id"]: run for run in runs}
    methods = dict.fromkeys(
        row.method.method
        for row in table.rows
        if (row.block.costs or table.spec.appendix)
        and row.facts
        and any(timed_by_clock(run.record) for run in of_one_clock(by_id[run_id] for run_id in row.runs))
    )
    if methods:
        yield (
            f"Seconds are the processor's, except of {'; '.join(methods)}: these are the clock's, which other programs "
            "may have lengthened, and the Positions/s include validation."
        )


def _machine_lines(rows: Sequence["Row"], runs: Sequence[Run]) -> Iterable[str]:
    """Which runs were made on a GPU, where some were."""
    by_id = {run.record["id"]: run.record for run in runs}
    found: dict[str, dict[str, list[int]]] = {}  # seeds by GPU and method
    for row in rows:
        for record in (by_id[run_id] for run_id in row.runs):
            if gpu := accelerator_of(record):
                seeds = found.setdefault(gpu, {}).setdefault(row.method.method, [])
                seeds.extend({record["seed"]} - {*seeds})
    for gpu, methods in found.items():
        told = "; ".join(
            f"{method}, seed{'s' * (len(seeds) > 1)} {', '.join(map(str, sorted(seeds)))}"
            for method, seeds in methods.items()
        )
        yield f"Trained on {gpu}: {told}. Of a row that was trained on processors, too, costs are those there."


def _audit_lines(runs: Sequence[Run]) -> Iterable[str]:
    """The leak audit, numbers as means over seeds: pools differ from seed to seed."""
    by_label: dict[str, dict[int, Any]] = {}
    for run in runs:
        for label, value in run.record["data"].get("audit", {}).items():
            by_label.setdefault(label, {})[run.record["seed"]] = value
    for label, by_seed in by_label.items():
        values = list(by_seed.values())
        numeric = all(isinstance(value, int | float) for value in values)
        yield f"{label}: {f'{np.mean(values):.4g}' if numeric else values[0]}"


def _text_lines(rows: Sequence["Row"], runs: Sequence[Run]) -> Iterable[str]:
    """Who has the text vectors that the protocol line speaks of."""
    records = {run.record["id"]: run.record for run in runs}
    reading = [row for row in rows if any(reads_text(RunSpec.of(records[run_id])) for run_id in row.runs)]
    if reading:
        methods = dict.fromkeys(row.method.method for row in reading)
        yield f"Text vectors of the frozen encoder are read by {', '.join(methods)}."


def _tuning_lines(rows: Sequence["Row"], runs: Sequence[Run]) -> Iterable[str]:
    """How the settings of each method were found, where it has any but the length of histories."""
    records = {run.record["id"]: run.record for run in runs}
    found: dict[str, dict[str, dict[str, None]]] = {}  # by search and model, methods in the order of the rows
    by_hand: dict[str, None] = {}
    for row in rows:
        own = [records[run_id] for run_id in row.runs if set(records[run_id]["settings"]) - {"max_history"}]
        searches = [search for record in own if (search := _search(record, row.method.settings.keys()))]
        if searches:
            of_search = found.setdefault(max(searches, key=len), {})
            of_search.setdefault(own[0]["model"], {})[row.method.method] = None
        elif own:
            by_hand[row.method.method] = None
    lines = []
    for how, of_search in sorted(found.items()):
        told = (f"{model}: {', '.join(methods)}" for model, methods in sorted(of_search.items()))
        lines.append(f"{how} for {'; for '.join(told)}")
    if by_hand:
        lines.append(f"set by hand: {', '.join(by_hand)}")
    if lines:
        yield f"Settings {'; '.join(lines)}."


def _search(record: Mapping[str, Any], named: Set[str]) -> str | None:
    """How a run's values were found but for those that its row names: a search may have confirmed them after the run;
    None where there was none."""
    spec = RunSpec.of(record)
    whole = tuning_of(spec, record["scale"]) or record.get("tuning")
    tuning = whole or tuning_of(spec, record["scale"], named)
    if not tuning:
        return None
    how = f"found by {tuning['trials']} trials of Optuna on validation at scale {tuning['scale']}"
    if "confirmed" in tuning:
        how += f", the best of these and those by hand once more at scale {tuning['confirmed']},"
    return how if whole else f"{how} but for what its row names,"


def _short_epoch_lines(rows: Sequence["Row"], runs: Sequence[Run]) -> Iterable[str]:
    """Methods that learn from some of the targets of each sequence, so that their epochs are not those of others."""
    settings = {run.record["id"]: run.record["settings"] for run in runs}
    taken: dict[int, dict[str, None]] = {}
    for row in rows:
        for count in {settings[run_id].get("requests_per_sequence", 0) for run_id in row.runs} - {0}:
            taken.setdefault(count, {})[row.method.method] = None
    if taken:
        told = "; ".join(f"{', '.join(methods)} {count}" for count, methods in sorted(taken.items()))
        yield (
            f"Random requests of either kind that are learnt from of each training sequence in an epoch: {told}; "
            "the other models learn from all of theirs."
        )


def _window_lines(rows: Sequence["Row"], runs: Sequence[Run]) -> Iterable[str]:
    """How far apart training windows are, where rows differ: with more of a stride, targets have shorter histories."""
    records = {run.record["id"]: run.record for run in runs}
    strides: dict[int, dict[str, None]] = {}
    for row in rows:
        for record in (records[run_id] for run_id in row.runs if records[run_id]["trainer"]):
            stride = record["trainer"].get("window_stride", 0) or record["protocol"]["max_history"] // 2
            strides.setdefault(stride, {})[row.method.method] = None
    if len(strides) > 1:
        told = "; ".join(f"every {stride} {', '.join(methods)}" for stride, methods in sorted(strides.items()))
        yield f"Events after which a user's next training window begins, where histories are longer than one: {told}."


def _cut_short(rows: Sequence["Row"], runs: Sequence[Run]) -> list[str]:
    """Methods with trained runs that something other than early stopping ended."""
    ends = {run.record["id"]: run.record["training"] for run in runs}
    cut: dict[str, set[str]] = {}
    for row in rows:
        for training in (ends[run_id] for run_id in row.runs):
            if "epochs" in training and training["stopped"] != "early stopping":
                cut.setdefault(row.method.method, set()).add(training["stopped"])
    return [f"{method} ({', '.join(sorted(reasons))})" for method, reasons in cut.items()]
