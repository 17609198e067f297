"""A small shop on disk, and sweeps of SASRec on it whose length a test chooses."""

import argparse
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from toys import toy_shop

from benchmarks.campaign import Campaign, add_arguments
from slurm.job_profile import Profile
from slurm.sweeps import Sweep, sweep_of

MakeSweep = Callable[..., Sweep]


@pytest.fixture(scope="session")
def shop(tmp_path_factory) -> Path:
    """400 users, 150 items."""
    return toy_shop(tmp_path_factory.mktemp("data") / "shop", users=400, items=150)


@pytest.fixture
def make_sweep(shop: Path) -> MakeSweep:
    return sweep_maker(shop)


def sweep_maker(shop: Path) -> MakeSweep:
    """Sweeps of SASRec with as many seeds and epochs as a test needs; they do not stop early."""

    def make(out: Path, seeds: int = 1, epochs: int = 3, **settings: object) -> Sweep:
        p = argparse.ArgumentParser()
        add_arguments(p, "sketch")
        words = ["--table", "3", "--dataset", str(shop), "--models", "SASRec", "--seeds", str(seeds), "--out", str(out)]
        campaign = Campaign.asked(p.parse_args(words))
        runs = {}
        for run in campaign.wanted["SASRec"]:
            trainer = run.trainer | {"max_epochs": epochs, "patience": epochs}
            run = replace(run, trainer=trainer, settings=run.settings | settings)
            runs[run.id] = ("SASRec", run)
        return sweep_of(campaign, Profile(device="cpu"), runs)

    return make
