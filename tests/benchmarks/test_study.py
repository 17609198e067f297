"""Searches on disk: interrupted, repeated, damaged, failed and pruned trials; here a formula stands for trainings."""

from collections.abc import Iterable
from dataclasses import replace

import pytest
from optuna.trial import FrozenTrial, TrialState

import benchmarks.tuning.trial
from benchmarks.plan import make_run
from benchmarks.spec import load_spec
from benchmarks.tuning.findings import best_of, importances, reason
from benchmarks.tuning.space import search_space
from benchmarks.tuning.study import BY_HAND, Search, alone, claim, kept, note_worker, values_of
from benchmarks.tuning.workers import attempt, search_until
from synergen.errors import UserError

SPACE = {"settings.hidden_dropout": [0.1, 0.6], "training.learning_rate": {"low": 1e-4, "high": 1e-2, "log": True}}


@pytest.fixture
def search(tmp_path) -> Search:
    base = make_run("SASRec", "recommendation", {}, load_spec(2).protocol, "x", "cpu", 0, by_hand=True)
    return Search(base, search_space(SPACE, base, (), None, "here"), "x", "data", "cpu", tmp_path / "studies", "cpu")


def formula(spec) -> float:
    return 1 - (spec.settings["hidden_dropout"] - 0.3) ** 2 - spec.trainer["learning_rate"]


def advance(search, trials, stop_after=None) -> list[dict]:
    """Do trials until there are `trials`; with `stop_after`, leave the next one behind as a killed process does."""
    done = 0
    with alone(search) as study:
        while (trial := claim(search, trials)) is not None:
            if done == stop_after:
                break
            trial.study.tell(trial, formula(search.spec(trial)))
            done += 1
        return [values_of(trial) for trial in kept(study)]


def test_the_first_trial_has_the_configuration_by_hand(search):
    advance(search, 3)
    with alone(search) as study:
        first, *others = kept(study)
    assert search.spec(first) == search.base
    assert BY_HAND in first.user_attrs
    assert all(BY_HAND not in trial.user_attrs for trial in others)


@pytest.mark.parametrize("stops", [[0], [3, 0, 2]])
def test_an_interrupted_search_finds_the_same_trials(search, tmp_path, stops):
    whole = advance(search, 8)  # the reference: never interrupted
    other = replace(search, folder=tmp_path / "other")
    for stop in stops:
        advance(other, 8, stop_after=stop)
    assert advance(other, 8) == whole
    assert len(whole) == 8
    assert len({str(values) for values in whole}) == 8


def test_more_trials_may_be_asked_for_later_and_fewer_change_nothing(search, tmp_path):
    whole = advance(replace(search, folder=tmp_path / "other"), 7)
    assert advance(search, 4) == whole[:4]
    assert advance(search, 7) == whole
    assert advance(search, 2) == whole


def test_trials_without_an_end_count_nothing_twice(search):
    with alone(search) as study:
        assert [claim(search, 2) is not None for _ in range(3)] == [True, True, False]  # two at work side by side
        assert len(kept(study)) == 2


def test_two_commands_do_not_share_a_study(search):
    with alone(search), pytest.raises(UserError, match="another search works on it"), alone(search):
        pass
    with alone(search):  # and the first has let it go
        pass


class Waiting:
    """A pool of workers that have not begun."""

    retries, look_every = False, 0.01

    def __init__(self) -> None:
        self.there = {"left"}
        self.started: list[str] = []

    def start(self, search: Search, trials: int) -> str:
        self.started.append(f"new {len(self.started)}")
        self.there.add(self.started[-1])
        return self.started[-1]

    def alive(self, workers: Iterable[str]) -> set[str]:
        return self.there & set(workers)

    def died(self, worker: str) -> str:
        return ""

    def stop(self, workers: Iterable[str]) -> None:
        self.there -= set(workers)


def test_a_worker_that_an_earlier_command_left_waiting_is_one_of_those_asked_for(search):
    """Of three workers one is there, in the queue: two are started, and an end of the command ends all three."""
    search.folder.mkdir(parents=True)
    note_worker(search, "gone")
    note_worker(search, "left")
    pool = Waiting()

    def end(trials: list[FrozenTrial]) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        search_until(search, 8, 3, pool, end)
    assert pool.started == ["new 0", "new 1"]
    assert not pool.there


def test_what_a_killed_process_left_is_removed(search):
    advance(search, 2)
    lock = search.journal.with_name(f"{search.journal.name}.lock")
    lock.symlink_to(search.journal)  # as Optuna locks; with it there, whoever opens the study waits half a minute
    search.scratch.mkdir()
    (search.scratch / "1.pt").touch()
    with alone(search):
        assert not lock.is_symlink()
        assert not (search.scratch / "1.pt").exists()
    assert {path.name for path in search.folder.iterdir()} == {search.journal.name}


def test_half_a_line_at_the_end_of_the_journal_is_cut_off(search):
    before = advance(search, 3)
    with open(search.journal, "ab") as journal:
        journal.write(b'{"op_code":4,"wor')
    assert advance(search, 3) == before
    assert advance(search, 5)[:3] == before


def test_another_space_scale_protocol_or_data_is_another_study(search):
    smaller = {place: one for place, one in search.space.items() if place != "training.learning_rate"}
    other_scale = make_run("SASRec", "recommendation", {}, load_spec(2).protocol, "x", "smoke", 0, by_hand=True)
    other_protocol = replace(search.base, protocol={**search.base.protocol, "max_history": 20})
    others = [
        replace(search, space=smaller),
        replace(search, base=other_scale),
        replace(search, base=other_protocol),
        replace(search, data="other"),
    ]
    assert len({search.id, *(other.id for other in others)}) == 5
    advance(search, 3)
    advance(others[0], 2)  # in the same journal
    assert len(advance(search, 3)) == 3


def test_a_failed_trial_is_kept_with_its_reason_and_the_search_goes_on(search, monkeypatch):
    def fails(spec, *rest):
        raise UserError("the loss is not finite")

    monkeypatch.setattr(benchmarks.tuning.trial, "best_validation", fails)
    with alone(search) as study:
        attempt(claim(search, 3), search)
        with pytest.raises(UserError, match="no trial came to its end; the first one failed: the loss is not finite"):
            best_of(kept(study))
        monkeypatch.setattr(benchmarks.tuning.trial, "best_validation", lambda spec, *rest: {"N@10": formula(spec)})
        while (trial := claim(search, 3)) is not None:
            attempt(trial, search)
        trials = kept(study)
    assert [trial.state for trial in trials] == [TrialState.FAIL, TrialState.COMPLETE, TrialState.COMPLETE]
    assert reason(trials[0]) == "the loss is not finite"
    assert best_of(trials).value == max(formula(search.spec(trial)) for trial in trials[1:])


def test_trials_below_the_median_are_pruned_but_never_the_one_by_hand(search, monkeypatch):
    reached = iter([0.1, 0.5, 0.6, 0.7, 0.4, 0.9])  # from the fifth on, the median of those before is 0.55

    def curve(spec, source, device, checkpoint, seen, stop):
        level = next(reached)
        for epoch in range(1, 9):
            seen(epoch, level)
        return {"N@10": level}

    monkeypatch.setattr(benchmarks.tuning.trial, "best_validation", curve)
    with alone(search) as study:
        while (trial := claim(search, 6)) is not None:
            attempt(trial, search)
        trials = kept(study)
    complete, pruned = TrialState.COMPLETE, TrialState.PRUNED
    assert [trial.state for trial in trials] == [complete] * 4 + [pruned, complete]
    assert trials[4].last_step < 8
    assert best_of(trials).value == 0.9


def test_importances_find_what_the_formula_depends_on(search):
    def steep(spec):
        return -((spec.settings["hidden_dropout"] - 0.3) ** 2)  # not of the learning rate

    with alone(search) as study:
        while (trial := claim(search, 2)) is not None:
            trial.study.tell(trial, steep(search.spec(trial)))
        assert importances(study) is None  # two trials, two values
        while (trial := claim(search, 14)) is not None:
            trial.study.tell(trial, steep(search.spec(trial)))
        shares = importances(study)
    assert sum(shares.values()) == pytest.approx(1)
    assert shares["settings.hidden_dropout"] > 0.8
