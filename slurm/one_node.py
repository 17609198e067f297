"""A private SLURM cluster on this machine, for tests: two virtual nodes with pretend A100s, and real accounting.

It needs no systemd, no cgroups and no containers; root only to install Debian's packages. Everything lives in one
folder and listens on the loopback interface alone. Afterwards `. FOLDER/env.sh` makes SLURM's commands talk to it.
"""

import argparse
import getpass
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

if __package__ in (
    None,
    "",
):  # python slurm/one_node.py, without installation; this folder itself is not to be searched
    sys.path[0] = str(Path(__file__).resolve().parents[1])

from synergen.console import exit_status
from synergen.errors import UserError

PACKAGES = ("slurmctld", "slurmd", "slurm-client", "munge", "slurmdbd", "mariadb-server-core")
_PROGRAMS = ("munged", "slurmctld", "slurmd", "slurmdbd", "mariadbd", "sbatch", "srun", "squeue", "sacct")
_DAEMONS = ("slurmd.1", "slurmd.2", "slurmctld", "slurmdbd", "mariadbd", "munged")
"""In the order in which they are stopped."""
_GPUS, _CPUS, _MEGABYTES = 2, 8, 16000
"""Of each virtual node, whatever the machine has."""
_MYSQL = Path("/usr/share/mysql")

_SLURM_CONF = """\
ClusterName=test{port}
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={port}
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/munge
CredType=cred/munge
# cred_expire is also how long a job that is queued again waits: 120 s where it is not set
AuthInfo=socket={base}/run/munge.socket,cred_expire=5
CommunicationParameters=NoInAddrAny,NoCtldInAddrAny
StateSaveLocation={base}/state
SlurmdSpoolDir={base}/spool/%n
SlurmctldPidFile={base}/run/slurmctld.pid
SlurmdPidFile={base}/run/slurmd.%n.pid
SlurmctldLogFile={base}/log/slurmctld.log
SlurmdLogFile={base}/log/slurmd.%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MailProg=/bin/true
MpiDefault=none
SwitchType=switch/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
SchedulerType=sched/backfill
SchedulerParameters=sched_interval=2,bf_interval=2,batch_sched_delay=0,sched_min_interval=0
PriorityType=priority/basic
# a job that is preempted hears of it GraceTime seconds before, by the signal that it asked for
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
SlurmctldParameters=preempt_send_user_signal
SlurmdParameters=config_overrides
ReturnToService=2
JobRequeue=1
# an impossible request is refused, and does not wait for ever
EnforcePartLimits=ALL
MinJobAge=3600
KillWait=2
FirstJobId={port}
JobAcctGatherType=jobacct_gather/linux
AccountingStorageType=accounting_storage/slurmdbd
AccountingStorageHost=127.0.0.1
AccountingStoragePort={dbd_port}
AccountingStoragePass={base}/run/munge.socket
GresTypes=gpu
NodeName=DEFAULT CPUs={cpus} RealMemory={megabytes} Gres=gpu:a100:{gpus}
NodeName=127.0.0.1 NodeHostname={host} NodeAddr=127.0.0.1 Port={first_port}
NodeName=127.0.0.2 NodeHostname={host} NodeAddr=127.0.0.1 Port={second_port}
PartitionName=DEFAULT Nodes=ALL MaxTime=60 DefaultTime=5 DefMemPerCPU=100
PartitionName=a100 Default=YES PriorityTier=10
PartitionName=low PriorityTier=1 GraceTime=10
"""
_GRES_CONF = "AutoDetect=off\nNodeName=127.0.0.[1-2] Name=gpu Type=a100 File={base}/dev/gpu[0-{last}]\n"
_DBD_CONF = """\
AuthType=auth/munge
AuthInfo=socket={base}/run/munge.socket
CommunicationParameters=NoInAddrAny
DbdHost={host}
DbdAddr=127.0.0.1
DbdPort={dbd_port}
SlurmUser={user}
PidFile={base}/run/slurmdbd.pid
LogFile={base}/log/slurmdbd.log
StorageType=accounting_storage/mysql
StorageHost=127.0.0.1
StoragePort={sql_port}
StorageUser=slurm
StoragePass=slurm
StorageLoc=accounting
"""
_GRANTS = """\
CREATE DATABASE IF NOT EXISTS accounting;
CREATE USER IF NOT EXISTS 'slurm'@'127.0.0.1' IDENTIFIED BY 'slurm';
CREATE USER IF NOT EXISTS 'slurm'@'localhost' IDENTIFIED BY 'slurm';
GRANT ALL ON accounting.* TO 'slurm'@'127.0.0.1';
GRANT ALL ON accounting.* TO 'slurm'@'localhost';
"""


def missing() -> list[str]:
    """The programs that are not installed."""
    return [name for name in _PROGRAMS if shutil.which(name, path=_path()) is None]


def install() -> None:
    """Debian's packages, as root.

    Raises:
        UserError: this is not Debian, or not root, or the packages cannot be had.
    """
    if not missing():
        return
    advice = f"install them by hand: apt-get install --no-install-recommends {' '.join(PACKAGES)}"
    if shutil.which("apt-get") is None or os.geteuid() != 0:
        raise UserError(f"{', '.join(missing())} are not here, and only root can have apt-get install them; {advice}")
    environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
    for words in (["update", "-qq"], ["install", "-y", "-qq", "--no-install-recommends", *PACKAGES]):
        done = subprocess.run(["apt-get", *words], env=environment, capture_output=True, text=True, check=False)
    if missing():
        raise UserError(f"apt-get could not install SLURM: {done.stderr.strip()[-500:]}; {advice}")


def start(base: Path) -> dict[str, str]:
    """Start a cluster in the folder `base`; returns the variables that SLURM's commands need.

    Raises:
        UserError: a program is missing, a cluster runs there already, or a daemon did not start; then none is left.
    """
    if missing():
        raise UserError(f"{', '.join(missing())} are not here; python slurm/one_node.py install")
    base = base.resolve()
    if any(_alive(base, name) for name in _DAEMONS):
        raise UserError(f"a cluster runs in {base}; stop it first")
    shutil.rmtree(base, ignore_errors=True)
    for folder in ("run", "log", "state", "db", "dev", "etc", "munge", "spool/127.0.0.1", "spool/127.0.0.2"):
        (base / folder).mkdir(parents=True)
    for folder in ("state", "db", "munge"):
        (base / folder).chmod(0o700)
    port = _free_ports(5)
    values = {
        "base": base,
        "user": getpass.getuser(),
        "host": socket.gethostname().split(".")[0],
        **{"cpus": _CPUS, "megabytes": _MEGABYTES, "gpus": _GPUS, "last": _GPUS - 1},
        **{"port": port, "dbd_port": port + 1, "sql_port": port + 2},
        **{"first_port": port + 3, "second_port": port + 4},
    }
    for at in range(_GPUS):
        (base / "dev" / f"gpu{at}").symlink_to("/dev/null")
    for name, text in (("slurm.conf", _SLURM_CONF), ("gres.conf", _GRES_CONF), ("slurmdbd.conf", _DBD_CONF)):
        (base / "etc" / name).write_text(text.format(**values))
    (base / "etc" / "slurmdbd.conf").chmod(0o600)
    variables = {"SLURM_CONF": str(base / "etc" / "slurm.conf")}
    (base / "env.sh").write_text("".join(f"export {name}={value}\n" for name, value in variables.items()))
    os.environ.update(variables)
    try:
        _start_munge(base)
        _start_database(base, port + 2)
        _daemon(base, ["slurmdbd"])
        _until(lambda: _listens(port + 1), "slurmdbd", base)
        _daemon(base, ["slurmctld", "-f", variables["SLURM_CONF"]])
        for node in ("127.0.0.1", "127.0.0.2"):
            _daemon(base, ["slurmd", "-f", variables["SLURM_CONF"], "-N", node])
        _until(_both_idle, "slurmctld", base)
    except BaseException:
        stop(base)
        raise
    return variables


def stop(base: Path) -> None:
    """Cancel all jobs and stop the daemons of the cluster in `base`; its logs stay."""
    base = base.resolve()
    variables = os.environ | {"SLURM_CONF": str(base / "etc" / "slurm.conf"), "PATH": _path()}
    if _alive(base, "slurmctld"):
        subprocess.run(["scancel", "--user", getpass.getuser()], env=variables, timeout=30, check=False)
    for name in _DAEMONS:
        pid = _alive(base, name)
        if pid:
            os.kill(pid, signal.SIGTERM)
            deadline = time.monotonic() + 15
            while _alive(base, name):
                if time.monotonic() > deadline:
                    os.kill(pid, signal.SIGKILL)
                time.sleep(0.05)


def _start_munge(base: Path) -> None:
    key = base / "munge" / "key"
    key.write_bytes(os.urandom(1024))
    key.chmod(0o400)
    places = {"key-file": key, "socket": base / "run" / "munge.socket", "pid-file": base / "run" / "munged.pid"}
    places |= {"log-file": base / "log" / "munged.log", "seed-file": base / "munge" / "seed"}
    _daemon(base, ["munged", "--force", *(f"--{name}={place}" for name, place in places.items())])


def _start_database(base: Path, port: int) -> None:
    """MariaDB, whose own tables are fed to it: the script that usually does it is in another package."""
    tables = ("mysql_system_tables.sql", "mysql_performance_tables.sql", "mysql_system_tables_data.sql")
    texts = [(_MYSQL / name).read_text() for name in tables]
    begin = "CREATE DATABASE mysql;\nUSE mysql;\nSET @auth_root_socket=NULL;\n"
    common = ["mariadbd", "--no-defaults", f"--user={getpass.getuser()}", f"--datadir={base / 'db'}"]
    with open(base / "log" / "bootstrap.log", "w") as log:
        subprocess.run(
            [*common, "--bootstrap", "--innodb-log-file-size=16M"],
            input=begin + "".join(texts),
            text=True,
            stdout=log,
            stderr=log,
            env=os.environ | {"PATH": _path()},
            check=True,
        )
    grants = base / "etc" / "grants.sql"
    grants.write_text(_GRANTS)
    places = [f"--socket={base / 'run' / 'sql.socket'}", f"--pid-file={base / 'run' / 'mariadbd.pid'}"]
    small = ["--innodb-buffer-pool-size=64M", "--innodb-flush-log-at-trx-commit=0", "--performance-schema=OFF"]
    with open(base / "log" / "mariadbd.log", "w") as log:
        subprocess.Popen(
            [*common, *places, *small, "--bind-address=127.0.0.1", f"--port={port}", f"--init-file={grants}"],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            env=os.environ | {"PATH": _path()},
            start_new_session=True,
        )
    _until(lambda: _listens(port), "mariadbd", base)


def _daemon(base: Path, command: list[str]) -> None:
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=60, check=False, env=os.environ | {"PATH": _path()}
    )
    if done.returncode:
        raise UserError(f"{command[0]} did not start: {done.stderr.strip()[-500:]}; see {base}/log")


def _until(true: Callable[[], bool], what: str, base: Path) -> None:
    deadline = time.monotonic() + 60
    while not true():
        if time.monotonic() > deadline:
            raise UserError(f"{what} did not answer in a minute; see {base}/log")
        time.sleep(0.1)


def _both_idle() -> bool:
    answer = subprocess.run(
        ["sinfo", "-h", "-N", "-o", "%N %T"], capture_output=True, text=True, timeout=30, check=False
    )
    return len({line.split()[0] for line in answer.stdout.splitlines() if line.endswith(" idle")}) == 2


def _listens(port: int) -> bool:
    with socket.socket() as one:
        return one.connect_ex(("127.0.0.1", port)) == 0


def _alive(base: Path, name: str) -> int:
    """The process of a daemon, 0 where it does not run; a zombie that nobody has waited for does not."""
    kind, _, node = name.partition(".")
    path = base / "run" / (f"slurmd.127.0.0.{node}.pid" if node else f"{name}.pid")
    try:
        pid = int(path.read_text())
        status = Path(f"/proc/{pid}/status").read_text()
    except (OSError, ValueError):
        return 0
    return pid if f"Name:\t{kind}\n" in status and "State:\tZ" not in status else 0


def _free_ports(count: int) -> int:
    """The first of `count` neighbouring ports that nobody listens on."""
    for _ in range(500):
        first = random.randrange(20000, 32000, 50)  # below those that outgoing connections take
        taken = []
        try:
            for port in range(first, first + count):
                taken.append(socket.socket())
                taken[-1].bind(("127.0.0.1", port))
        except OSError:
            continue
        else:
            return first
        finally:
            for one in taken:
                one.close()
    raise UserError("no free ports between 20000 and 32000")


def _path() -> str:
    return f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"


def main(arguments: list[str] | None = None) -> int:
    """Run the command; returns the exit status."""
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("command", choices=("install", "start", "stop"))
    p.add_argument("folder", nargs="?", type=Path, default=Path("/tmp/synergen-slurm"), help="default %(default)s")
    options = p.parse_args(arguments)

    def act() -> None:
        if options.command == "install":
            install()
        elif options.command == "start":
            start(options.folder)
            print(f". {options.folder}/env.sh")
        else:
            stop(options.folder)

    return exit_status(act)


if __name__ == "__main__":
    sys.exit(main())
