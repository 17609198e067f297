"""`synergen compare`: two sets of finished runs, in any metric and by any test, from their ranks on record."""

import argparse
import json
from collections.abc import Callable
from typing import Any

from rich.console import Console
from scipy import stats

from synergen.commands.common import add_results_folder, command
from synergen.errors import UserError, unknown_name
from synergen.evaluation.paired import UserDifferences, bootstrap, compare_ranks, holm, randomisation_test
from synergen.runs import Run, RunStore


def _wilcoxon(compared: UserDifferences) -> float:
    by_user = compared.by_user
    return float(stats.wilcoxon(by_user).pvalue) if by_user.any() else 1.0


_TESTS: dict[str, Callable[[UserDifferences], float]] = {
    "randomisation": lambda compared: randomisation_test([compared])[0],
    "wilcoxon": _wilcoxon,
    "t": lambda compared: float(stats.ttest_1samp(compared.by_user, 0).pvalue),
}


def add(commands: Any) -> None:
    """Add the command."""
    compare = command(
        commands,
        "compare",
        "compare finished runs in any metric, from their ranks on record; nothing is run",
        _compare,
        "synergen compare 0123456789ab fedcba987654 --metric N@20,R@3",
    )
    for name, about in (("ours", "id of a run, or ids of several seeds as ID,ID"), ("theirs", "the same of the other")):
        compare.add_argument(name, metavar="RUN[,RUN]", help=about)
    compare.add_argument("--metric", default="N@10", metavar="A,B", help="R@k, N@k for any k, MRR; of slates also NDCG")
    compare.add_argument("--task", choices=["recommendation", "search"], help="by default the first that both have")
    compare.add_argument(
        "--candidates", metavar="NAME", help="which ranks: pool, full, slate, ...; by default those of the protocol"
    )
    compare.add_argument(
        "--test",
        choices=list(_TESTS),
        default="randomisation",
        help="by user, means over seeds: random signs, Wilcoxon's signed ranks, or Student's paired t",
    )
    add_results_folder(compare)


def _compare(options: argparse.Namespace, screen: Console) -> None:
    store = RunStore(options.out)
    ours, theirs = _runs(store, options.ours), _runs(store, options.theirs)
    _refuse_different([*ours.values(), *theirs.values()])
    key = _ranks_key([*ours.values(), *theirs.values()], options)
    seeds = sorted(set(ours) & set(theirs))
    names = options.metric.split(",")
    own, others = ({seed: run.ranks[key] for seed, run in side.items()} for side in (ours, theirs))
    compared = [one for name in names if (one := compare_ranks(own, others, name)) is not None]
    if not compared:
        raise UserError(f"the runs share no seed ({sorted(ours)} and {sorted(theirs)}); give runs of the same seeds")
    p_values = [_TESTS[options.test](one) for one in compared]
    found: list[dict[str, Any]] = [
        {
            "metric": name,
            "difference": interval.mean,
            "low": interval.low,
            "high": interval.high,
            "p_value": p_value,
            "p_holm": p_holm,
            "effect": one.effect,
            "users_won": one.wins,
            "users_lost": one.losses,
            "users": len(one.counts),
        }
        for name, one, interval, p_value, p_holm in zip(
            names, compared, bootstrap(compared), p_values, holm(p_values), strict=True
        )
    ]
    if options.json:
        print(json.dumps({"task": key[0], "candidates": key[1], "seeds": seeds, "test": options.test, "found": found}))
        return
    models = [next(iter(side.values())).record["model"] for side in (ours, theirs)]
    sampled = "over users and seeds" if len(seeds) > 1 else "over users, not over trainings (one seed)"
    adjusted = ", adjusted by Holm" if len(names) > 1 else ""
    screen.print(
        f"{models[0]} minus {models[1]}, {' among '.join(key)}, seeds {', '.join(map(str, seeds))}. Points, 95 % "
        f"bootstrap interval {sampled}; p by {options.test}{adjusted}; effect in standard deviations.",
        soft_wrap=True,
        markup=False,
    )
    for row in found:
        effect = "" if row["effect"] is None else f", effect {row['effect']:+.3f}"
        screen.print(
            f"{row['metric']:<6} {100 * row['difference']:+.2f} [{100 * row['low']:+.2f}, {100 * row['high']:+.2f}], "
            f"p {row['p_holm']:.2g}{effect}; of {row['users']:,} users {row['users_won']:,} won, "
            f"{row['users_lost']:,} lost",
            soft_wrap=True,
            markup=False,
        )


def _runs(store: RunStore, ids: str) -> dict[int, Run]:
    """By seed."""
    from benchmarks.admission import altered

    found: dict[int, Run] = {}
    for run_id in ids.split(","):
        run = store.load(run_id)
        if run is None:
            raise UserError(f"run {run_id}: there is no such finished run in {store.folder}; --out names the folder")
        if line := altered(run, str(run.record.get("model"))):
            raise UserError(line)
        if run.record["seed"] in found:
            raise UserError(f"{ids}: several runs of seed {run.record['seed']}; give one run a seed")
        found[run.record["seed"]] = run
    return found


def _refuse_different(runs: list[Run]) -> None:
    """Runs of other data or protocols answer other questions."""
    first, *others = [run.record for run in runs]
    for record in others:
        for name, theirs, ours in (
            ("data set", record["dataset"], first["dataset"]),
            ("data hash", record["data"]["hash"], first["data"]["hash"]),
            ("protocol", record["protocol"], first["protocol"]),
        ):
            if theirs != ours:
                raise UserError(f"run {record['id']} has another {name} than {first['id']}: {theirs}, not {ours}")


def _ranks_key(runs: list[Run], options: argparse.Namespace) -> tuple[str, str]:
    """The task and candidates asked for, among those that all runs were asked."""
    shared = sorted(set.intersection(*(set(run.ranks) for run in runs)))
    candidates = options.candidates or runs[0].record["protocol"]["candidates"]
    for key in shared:
        if key[1] == candidates and options.task in (None, key[0]):
            return key
    asked = f"{options.task or 'any task'} among {candidates}"
    raise unknown_name("ranks of all runs", asked, [" among ".join(key) for key in shared])
