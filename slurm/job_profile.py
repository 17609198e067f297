"""What a job asks a cluster for: a YAML file of profiles/, or one's own, with single fields set otherwise."""

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import yaml

from synergen.errors import UserError, unknown_name
from synergen.settings import from_mapping, refuse_below

FOLDER = Path(__file__).resolve().parent / "profiles"


@dataclass(frozen=True)
class Profile:
    """Fields have the names that sbatch gives its options; an empty one is left out."""

    partition: str = ""
    account: str = ""
    qos: str = ""
    constraint: str = ""
    gres: str = ""
    """Such as gpu:a100:1, on each node."""
    nodes: int = 1
    ntasks_per_node: int = 1
    """Processes on each node, one a GPU; where there are several in all, they train one run together."""
    cpus_per_task: int = 1
    mem_gb: float = 8.0
    """Of each node."""
    time_min: int = 60
    """The time limit. A run that needs longer is stopped, queued again, and goes on."""
    signal_delay_s: int = 120
    """How long before the limit a run is told to save its state."""
    max_timeouts: int = 50
    """How often a run that met its time limit goes on."""
    array_parallelism: int = 64
    """Jobs of a sweep that run at the same time."""
    device: str = "cuda"
    setup: tuple[str, ...] = field(default=())
    """Shell lines before the job, such as `module load cuda` or an activation of an environment."""
    container: str = ""
    """What stands before `python` to start it in a container, such as `apptainer exec --nv image.sif`."""
    extra: tuple[str, ...] = field(default=())
    """Further options of sbatch, KEY=VALUE or KEY each."""

    def __post_init__(self) -> None:
        refuse_below(self, 1, "nodes", "ntasks_per_node", "cpus_per_task", "time_min", "array_parallelism")
        refuse_below(self, 0, "signal_delay_s", "max_timeouts")
        if not self.mem_gb > 0:
            raise UserError(f"profile: mem_gb is {self.mem_gb}; it must be above 0")
        if self.signal_delay_s >= 60 * self.time_min:
            raise UserError(
                f"profile: signal_delay_s is {self.signal_delay_s} and the time limit {self.time_min} min; the signal "
                "must come later than the start"
            )
        if self.gres and self.gpus is None:
            raise UserError(f"profile: gres is '{self.gres}'; write gpu:N or gpu:TYPE:N")
        for option in self.extra:
            if not option.partition("=")[0].strip("-"):
                raise UserError(f"profile: extra has '{option}'; write KEY=VALUE or KEY, as after sbatch --")

    @property
    def gpus(self) -> int | None:
        """GPUs of a job on all of its nodes; None where `gres` does not say."""
        if not self.gres:
            return 0
        kind, _, count = self.gres.rpartition(":")
        return self.nodes * int(count) if kind.split(":")[0] == "gpu" and count.isdecimal() else None


def load_profile(name: str, changes: Sequence[str] = ()) -> Profile:
    """The profile of a name or of a YAML file, with `changes`, KEY=VALUE each.

    Raises:
        UserError: no such profile, an unknown field (the nearest is named), a value of another type, or out of range.
    """
    path = Path(name) if name.endswith((".yaml", ".yml")) else FOLDER / f"{name}.yaml"
    if not path.exists():
        raise unknown_name("profile", name, names())
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    except yaml.YAMLError as error:
        raise UserError(f"{path} is no YAML: {error}") from error
    if not isinstance(values, dict):
        raise UserError(f"{path}: a mapping is expected at the top")
    return changed(values, changes, f"profile {name}")


def changed(values: Mapping[str, Any], changes: Sequence[str], where: str) -> Profile:
    """The profile of plain values, as `written` makes them, with `changes`, KEY=VALUE each.

    Raises:
        UserError: as `load_profile`.
    """
    merged = dict(values)
    for change in changes:
        key, equals, value = change.partition("=")
        if not equals:
            raise UserError(f"--slurm {change}: write KEY=VALUE")
        merged[key] = _typed(key, value)
    plain = {key: tuple(value) if isinstance(value, list) else value for key, value in merged.items()}
    return from_mapping(Profile, plain, where)


def names() -> list[str]:
    """Of the profiles that come along."""
    return sorted(path.stem for path in FOLDER.glob("*.yaml"))


def sbatch_parameters(profile: Profile, job_name: str, root: Path, variables: Mapping[str, str]) -> dict[str, Any]:
    """What submitit's executor for SLURM is told.

    Args:
        root: the folder from which the job imports this project.
        variables: of the job's environment.
    """
    given = asdict(profile)
    plain = ("partition", "account", "qos", "constraint", "gres", "nodes", "ntasks_per_node", "cpus_per_task")
    parameters: dict[str, Any] = {
        key: given[key] for key in (*plain, "signal_delay_s", "array_parallelism") if given[key]
    }
    parameters |= {"job_name": job_name, "time": profile.time_min, "mem": f"{round(1024 * profile.mem_gb)}MB"}
    exports = [f"export {name}={value}" for name, value in variables.items()]
    parameters["setup"] = [*profile.setup, *exports, f"export PYTHONPATH={root}${{PYTHONPATH:+:$PYTHONPATH}}"]
    if profile.nodes * profile.ntasks_per_node > 1:
        parameters["srun_args"] = ["--kill-on-bad-exit=1"]
    further = (option.lstrip("-").partition("=") for option in profile.extra)
    parameters["additional_parameters"] = {"requeue": True} | {
        key: value if equals else True for key, equals, value in further
    }
    return parameters


def _typed(key: str, value: str) -> Any:
    """A word of the command line in the type of its field; lists are separated by ;"""
    kinds = {one.name: type(one.default) for one in dataclasses.fields(Profile)}
    kind = kinds.get(key)
    if kind in (int, float):
        try:
            return kind(value)
        except ValueError:
            raise UserError(f"--slurm {key}={value}: {kind.__name__} expected") from None
    return [line.strip() for line in value.split(";")] if kind is tuple else value


def written(profile: Profile) -> Mapping[str, Any]:
    """As plain values, for a file."""
    return {key: list(value) if isinstance(value, tuple) else value for key, value in asdict(profile).items()}
