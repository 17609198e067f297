"""The GPUs of a job: how many, and what they can do by their data sheet."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml

from slurm.job_profile import load_profile
from synergen.errors import UserError, unknown_name

_FACTS = Path(__file__).with_name("gpus.yaml")


@dataclass(frozen=True)
class Gpu:
    """One of them; the fields are explained in gpus.yaml."""

    memory_gb: float
    memory_gb_s: float
    tflops: Mapping[str, float]
    nvlink_gb_s: float
    network_gb_s: float


@dataclass(frozen=True)
class Cluster:
    """W equal GPUs, a process each."""

    name: str
    kind: str
    gpu: Gpu
    gpus: int
    """W."""
    per_node: int

    def summed_seconds(self, size: float) -> float:
        """To sum `size` bytes over all GPUs by rings: each sends 2 (W - 1) / W of them. Between nodes there are as many
        rings as a node has GPUs, and the slower of its links and its adapters together sets their pace."""
        pace = self.gpu.nvlink_gb_s
        if self.gpus > self.per_node:
            pace = min(pace, self.per_node * self.gpu.network_gb_s)
        return self.sent_to_sum(size) / (1e9 * pace)

    def sent_to_sum(self, size: float) -> float:
        """Bytes that a GPU sends."""
        return 2 * (self.gpus - 1) / self.gpus * size

    def exchanged_seconds(self, size: float) -> float:
        """For every GPU to send `size` bytes that are evenly meant for all, itself among them."""
        near, far = (self.per_node - 1) / self.gpus, (self.gpus - self.per_node) / self.gpus
        return size * (near / self.gpu.nvlink_gb_s + far / self.gpu.network_gb_s) / 1e9

    def sent_to_exchange(self, size: float) -> float:
        """Bytes that a GPU sends."""
        return (self.gpus - 1) / self.gpus * size


def load_cluster(profile: str, changes: Sequence[str] = ()) -> Cluster:
    """The GPUs that a profile of slurm/ asks for, with `changes`, KEY=VALUE each.

    Raises:
        UserError: no such profile, one without GPUs, or GPUs of which nothing is known.
    """
    asked = load_profile(profile, changes)
    kind = asked.gres.split(":")[1] if asked.gres.count(":") == 2 else ""
    facts = yaml.safe_load(_FACTS.read_text(encoding="utf-8"))
    if not asked.gpus:
        raise UserError(f"--cluster {profile}: this profile asks for no GPU; take one that does, such as a100x16")
    if kind not in facts:
        raise unknown_name("type of GPU", kind, facts, where=f"profile {profile}, gres '{asked.gres}' (gpu:TYPE:N)")
    return Cluster(profile, kind, Gpu(**facts[kind]), asked.gpus, asked.gpus // asked.nodes)
