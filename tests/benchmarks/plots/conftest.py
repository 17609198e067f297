"""The hand-made table of `plot_records.py`."""

import pytest
from plot_records import RUNS, material_of

from benchmarks.plots.material import Material


@pytest.fixture
def material(tmp_path) -> Material:
    return material_of(RUNS, tmp_path)
