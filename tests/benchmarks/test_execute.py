"""Runs side by side in processes of their own; here processes that only talk, or die, stand for them."""

import os
import time
from pathlib import Path
from typing import Any

import pytest

from benchmarks import execute
from benchmarks.execute import Event, Job, run_all
from synergen.runs import RunSpec


def job(seed: int, source: Path) -> Job:
    return Job(RunSpec("SASRec", "toy", "recommendation", seed, {}, {}, {}), str(source), source.parent, "cpu", "smoke")


def talks_or_dies(job: Job, threads: int, news: Any) -> None:
    """Seed 0 has news a hundred times a second until its source is a file; others die."""
    if job.spec.seed:
        os._exit(9)
    for _ in range(2000):
        news.put(Event(job.spec.id, "training", {}))
        time.sleep(0.01)
        if Path(job.source).exists():
            break
    news.put(Event(job.spec.id, "done", {}))


def test_a_death_is_noticed_while_others_have_news(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The talking run ends when it is; else, after twenty seconds."""
    monkeypatch.setattr(execute, "_work", talks_or_dies)
    noticed = tmp_path / "noticed"
    talking, dying = job(0, noticed), job(1, noticed)
    stages = []

    def show(event: Event) -> None:
        stages.append((event.run_id, event.stage))
        if event.stage == "failed":
            noticed.touch()

    failed = run_all([talking, dying], 2, 1, show)
    assert list(failed) == [dying.spec.id]
    assert "status 9 (out of memory, or killed)" in failed[dying.spec.id]
    assert stages.index((dying.spec.id, "failed")) < stages.index((talking.spec.id, "done")) < 2000
