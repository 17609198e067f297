"""What a number was made with: versions, processor, commit."""

import importlib.metadata
import os
import platform
import resource
import subprocess
import sys
from pathlib import Path
from typing import Any

import torch

_PACKAGES = ("synergen", "torch", "numpy", "pandas", "recbole", "transformers", "bm25s")


def environment(device: str) -> dict[str, Any]:
    """Versions, hardware and git commit, for the run record; a GPU is named where `device` is one."""
    versions = {name: importlib.metadata.version(name) for name in _PACKAGES}
    return {
        "python": platform.python_version(),
        "versions": versions,
        "processor": _processor(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "accelerator": torch.cuda.get_device_name(device) if device.startswith("cuda") else None,
        **_commit(),
    }


def peak_memory_mib() -> float:
    """The most resident memory this process has held, in MiB."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return round(peak / (2**20 if sys.platform == "darwin" else 2**10), 1)


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor()


def _commit() -> dict[str, Any]:
    folder = Path(__file__).resolve().parent

    def git(*arguments: str) -> str:
        return subprocess.run(
            ["git", "-C", str(folder), *arguments], capture_output=True, text=True, check=True
        ).stdout.strip()

    try:
        changed = git("status", "--porcelain", "--", "../synergen", "../baselines", "../benchmarks")
        return {"commit": git("rev-parse", "HEAD"), "uncommitted_changes": bool(changed)}
    except (OSError, subprocess.CalledProcessError):
        return {"commit": None, "uncommitted_changes": None}
