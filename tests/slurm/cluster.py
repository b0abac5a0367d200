"""A real Slurm cluster on this machine: munged, slurmctld and several slurmd with fake GPUs, on loopback.

Everything lies in one folder; no systemd, no cgroups. Fake GPUs are character devices, which Slurm allots
and names in CUDA_VISIBLE_DEVICES. With `accounting`, MariaDB and slurmdbd run too, for `sacct`.
"""

import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

PROGRAMS = ("slurmctld", "slurmd", "sbatch", "munged")
ACCOUNTING_PROGRAMS = ("slurmdbd", "mariadbd", "mariadb-install-db")
SEARCH = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"
GPU_NODES = ("gpu1", "gpu2")
CPU_NODES = ("cpu1",)
GPUS_PER_NODE = 2
# Longest waits. On a quiet machine all is a matter of seconds; tests may run side by side on a busy one.
START_SECONDS, COMMAND_SECONDS = 300, 120

SLURM_CONF = """
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket,cred_expire=30
CredType=cred/munge
SlurmctldPort={port}
{listen}
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.%n.pid
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool/%n
SlurmctldLogFile={folder}/log/slurmctld.log
SlurmdLogFile={folder}/log/slurmd.%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/linux
JobAcctGatherFrequency=task=1
JobAcctGatherParams=OverMemoryKill
SwitchType=switch/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
GresTypes=gpu
SlurmdParameters=config_overrides
PropagateResourceLimits=NONE
ReturnToService=2
JobRequeue=1
KillWait=15
InactiveLimit=0
MinJobAge=600
SlurmctldTimeout=30
SlurmdTimeout=20
SchedulerType=sched/backfill
SchedulerParameters=batch_sched_delay=1,sched_interval=5,bf_interval=5
{accounting}
"""
ACCOUNTING = """AccountingStorageType=accounting_storage/slurmdbd
AccountingStorageHost=127.0.0.1
AccountingStoragePort={port}
AccountingStoragePass={folder}/munge.socket
AccountingStorageTRES=gres/gpu"""
SLURMDBD_CONF = """AuthType=auth/munge
AuthInfo={folder}/munge.socket
DbdHost={host}
DbdAddr=127.0.0.1
DbdPort={port}
SlurmUser=root
LogFile={folder}/log/slurmdbd.log
PidFile={folder}/slurmdbd.pid
StorageType=accounting_storage/mysql
StorageHost=127.0.0.1
StoragePort={database_port}
StorageUser=slurm
StoragePass=slurm
StorageLoc=slurm_acct_db
{listen}
"""
DATABASE = """create database slurm_acct_db;
create user 'slurm'@'127.0.0.1' identified by 'slurm';
create user 'slurm'@'localhost' identified by 'slurm';
grant all on slurm_acct_db.* to 'slurm'@'127.0.0.1';
grant all on slurm_acct_db.* to 'slurm'@'localhost';
"""


def missing(accounting: bool) -> str:
    """Why there can be no cluster here; empty if there can."""
    wanted = PROGRAMS + (ACCOUNTING_PROGRAMS if accounting else ())
    absent = [name for name in wanted if shutil.which(name, path=SEARCH) is None]
    if absent:
        return f"no Slurm on this machine: {', '.join(absent)} not found"
    if os.geteuid() != 0:
        return "a test cluster can be started by root alone"
    return ""


def free_ports(count: int) -> list[int]:
    """Ports that nobody uses, no two of them the same."""
    with ExitStack() as stack:
        listeners = [stack.enter_context(socket.socket()) for _ in range(count)]
        for listener in listeners:
            listener.bind(("127.0.0.1", 0))
        return [int(listener.getsockname()[1]) for listener in listeners]


def listen(host: str) -> str:
    """The line of Slurm's configuration about where its programs listen: on loopback if that can be.

    They would look this machine's name up for it, which in some containers names no address, or another.
    """
    try:
        loopback = socket.gethostbyname(host).startswith("127.")
    except OSError:
        loopback = False
    return "CommunicationParameters=NoInAddrAny,NoCtldInAddrAny" if loopback else ""


def until(seconds: float, what: str, ready: Callable[[], bool]) -> None:
    """Wait for something, at most so long."""
    deadline = time.monotonic() + seconds
    while not ready():
        if time.monotonic() > deadline:
            raise TimeoutError(f"{what} did not happen within {seconds} s")
        time.sleep(0.2)


@dataclass
class Cluster:
    """The daemons of a cluster, by name: slurmctld, slurmd.gpu1 …"""

    folder: Path
    accounting: bool
    commands: dict[str, list[str]] = field(default_factory=dict)
    daemons: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)
    host: str = field(default_factory=lambda: socket.gethostname().split(".")[0])

    @property
    def environment(self) -> dict[str, str]:
        """Environment in which Slurm's commands speak to this cluster."""
        kept = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("SLURM", "SBATCH", "SRUN", "SACCT", "SQUEUE"))
        }
        return {
            **kept,
            "SLURM_CONF": str(self.folder / "slurm.conf"),
            "PATH": f"{self.folder / 'bin'}:{SEARCH}",
        }

    def run(self, *command: str, check: bool = True, timeout: float = COMMAND_SECONDS) -> str:
        """Output of one of Slurm's commands."""
        done = subprocess.run(
            command,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )
        if check and done.returncode:
            raise AssertionError(f"{' '.join(command)}: {done.stderr}")
        return done.stdout

    def succeeds(self, *command: str) -> bool:
        done = subprocess.run(
            command,
            env=self.environment,
            capture_output=True,
            timeout=COMMAND_SECONDS,
            check=False,
        )
        return done.returncode == 0

    def launch(self, name: str, *command: str) -> None:
        """Start a daemon in a session of its own."""
        if command:
            self.commands[name] = list(command)
        with (self.folder / "log" / f"{name}.out").open("ab") as output:
            self.daemons[name] = subprocess.Popen(
                self.commands[name], env=self.environment, stdin=subprocess.DEVNULL,
                stdout=output, stderr=output, start_new_session=True,
            )  # fmt: skip

    def kill(self, name: str, number: int = signal.SIGKILL) -> None:
        """End a daemon."""
        self.daemons[name].send_signal(number)
        self.daemons[name].wait(COMMAND_SECONDS)

    def start(self) -> None:
        """Start all daemons; returns when every node is idle."""
        for name in ("state", "spool", "log", "dev", "bin"):
            (self.folder / name).mkdir(parents=True)
        self.folder.chmod(0o755)
        self._start_munge()
        accounting = self._start_accounting() if self.accounting else ""
        self._configure(accounting)
        self.launch("slurmctld", "slurmctld", "-D", "-f", str(self.folder / "slurm.conf"))
        for node in (*GPU_NODES, *CPU_NODES):
            (self.folder / "spool" / node).mkdir()
            command = ("slurmd", "-D", "-f", str(self.folder / "slurm.conf"), "-N", node)
            self.launch(f"slurmd.{node}", *command)
        until(START_SECONDS, "idle nodes", self.ready)

    def ready(self) -> bool:
        """Whether all nodes can take jobs."""
        done = subprocess.run(
            ["sinfo", "-h", "-N", "-o", "%N %t"],
            env=self.environment, capture_output=True, text=True, timeout=COMMAND_SECONDS, check=False,
        )  # fmt: skip
        nodes = dict(line.split() for line in done.stdout.splitlines())
        return len(nodes) == 3 and set(nodes.values()) <= {"idle", "mix", "alloc", "comp"}

    def _start_munge(self) -> None:
        key = self.folder / "munge.key"
        key.write_bytes(os.urandom(128))
        key.chmod(0o400)
        socket_path = self.folder / "munge.socket"
        self.launch(
            "munged", "munged", "--foreground", "--force", "--num-threads=4", f"--key-file={key}",
            f"--socket={socket_path}", f"--pid-file={self.folder}/munged.pid",
            f"--log-file={self.folder}/log/munged.log", f"--seed-file={self.folder}/munge.seed",
        )  # fmt: skip
        until(START_SECONDS, "munge", lambda: self.succeeds("munge", "-n", "-S", str(socket_path)))

    def _start_accounting(self) -> str:
        database = self.folder / "database"
        port, database_port = free_ports(2)
        database.mkdir()
        self.run(
            "mariadb-install-db", "--no-defaults", "--user=root", f"--datadir={database}",
            "--auth-root-authentication-method=normal", "--skip-test-db", timeout=START_SECONDS,
        )  # fmt: skip
        sql = self.folder / "mysql.sock"
        self.launch(
            "mariadbd", "mariadbd", "--no-defaults", "--user=root", f"--datadir={database}",
            f"--socket={sql}", f"--pid-file={self.folder}/mariadbd.pid", "--bind-address=127.0.0.1",
            f"--port={database_port}", "--innodb-buffer-pool-size=64M", "--performance-schema=OFF",
            "--innodb-log-file-size=16M", "--innodb-lock-wait-timeout=900",
            "--innodb-flush-log-at-trx-commit=0",
        )  # fmt: skip
        client = ("mariadb", "--no-defaults", f"--socket={sql}", "-uroot", "-e")
        until(START_SECONDS, "MariaDB", lambda: self.succeeds(*client, "select 1"))
        self.run(*client, DATABASE)
        configuration = self.folder / "slurmdbd.conf"
        configuration.write_text(
            SLURMDBD_CONF.format(
                folder=self.folder,
                host=self.host,
                port=port,
                database_port=database_port,
                listen=listen(self.host),
            )
        )
        configuration.chmod(0o600)
        accounting = ACCOUNTING.format(folder=self.folder, port=port)
        self._configure(accounting)
        self.launch("slurmdbd", "slurmdbd", "-D", "-s")
        until(START_SECONDS, "slurmdbd", lambda: self.succeeds("sacctmgr", "-n", "list", "cluster"))
        for words in (["cluster", "test"], ["account", "test"], ["user", "root", "account=test"]):
            self.run("sacctmgr", "-i", "add", *words, check=False)
        return accounting

    def _configure(self, accounting: str) -> None:
        if not (self.folder / "slurm.conf").exists():
            self.ports = free_ports(1 + len(GPU_NODES) + len(CPU_NODES))
            for number in range(GPUS_PER_NODE):
                # The numbers of /dev/null: a device that is always there.
                os.mknod(
                    self.folder / "dev" / f"nvidia{number}", 0o666 | 0o020000, os.makedev(1, 3)
                )
            # Snakemake takes SLURM_CONF out of the environment of the steps inside a job.
            wrapper = self.folder / "bin" / "srun"
            wrapper.write_text(
                f'#!/bin/sh\nexport SLURM_CONF={self.folder}/slurm.conf\nexec /usr/bin/srun "$@"\n'
            )
            wrapper.chmod(0o755)
        lines = [
            SLURM_CONF.format(
                folder=self.folder,
                host=self.host,
                port=self.ports[0],
                accounting=accounting,
                listen=listen(self.host),
            )
        ]
        for node, port in zip((*GPU_NODES, *CPU_NODES), self.ports[1:], strict=True):
            gpus = f"Gres=gpu:{GPUS_PER_NODE}" if node in GPU_NODES else ""
            lines.append(
                f"NodeName={node} NodeHostname={self.host} NodeAddr=127.0.0.1 Port={port} CPUs=8 "
                f"RealMemory=64000 {gpus} State=UNKNOWN"
            )
        nodes = ",".join((*GPU_NODES, *CPU_NODES))
        lines.append(f"PartitionName=main Nodes={nodes} Default=YES MaxTime=INFINITE State=UP")
        (self.folder / "slurm.conf").write_text("\n".join(lines) + "\n")
        (self.folder / "gres.conf").write_text(
            "AutoDetect=off\n"
            + "".join(
                f"NodeName={node} Name=gpu File={self.folder}/dev/nvidia[0-{GPUS_PER_NODE - 1}]\n"
                for node in GPU_NODES
            )
        )

    def jobs(self) -> list[str]:
        """Numbers of the jobs that wait or run."""
        return self.run("squeue", "-h", "-o", "%A").split()

    def stop(self) -> None:
        """Cancel the jobs, then end the daemons that were started here."""
        if self.daemons.get("slurmctld") and self.daemons["slurmctld"].poll() is None:
            numbers = self.jobs()
            if numbers:
                self.run("scancel", "--full", "-s", "KILL", *numbers, check=False)
                self.run("scancel", *numbers, check=False)
                until(COMMAND_SECONDS, "end of the jobs", lambda: not self.jobs())
        for daemon in reversed(self.daemons.values()):
            if daemon.poll() is None:
                daemon.terminate()
                try:
                    daemon.wait(10)
                except subprocess.TimeoutExpired:
                    daemon.kill()
                    daemon.wait()
        end(steps_of(self.folder))


def steps_of(folder: Path) -> list[int]:
    """Slurm's job steps of a cluster with all below them: they outlive the daemons by design."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            ours = f"SLURM_CONF={folder}/slurm.conf".encode() in (process / "environ").read_bytes()
            name = (process / "comm").read_text()
        except OSError:
            continue
        if ours and name.startswith("slurmstepd"):
            found += below(int(process.name))
    return found


def below(process: int) -> list[int]:
    """A process and all its descendants."""
    found = [process]
    for path in Path(f"/proc/{process}/task").glob("*/children"):
        try:
            children = path.read_text().split()
        except OSError:
            continue
        for child in children:
            found += below(int(child))
    return found


def end(processes: Sequence[int]) -> None:
    """Kill processes that may have ended already."""
    for process in processes:
        try:
            os.kill(process, signal.SIGKILL)
        except ProcessLookupError:
            continue
