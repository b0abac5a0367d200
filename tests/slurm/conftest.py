"""A cluster for the session, and checkouts whose workflow runs on it."""

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.integration.conftest import REPOSITORY, TINY, TINY_TRAINING, copy_checkout
from tests.slurm.cluster import Cluster, missing, until
from workflow_scripts.settings.base import merge

# The job that the tests of faults disturb.
DISTURBED = "train_segmentation"
ON_GPU = ("train", "infer", DISTURBED, "evaluate_segmentation")
# Longest waits, for a run and for something in it: tests may run side by side on a busy machine.
RUN_SECONDS, SECONDS = 1200, 600
SUMMARY = "results/tiny/summary.json"
# One split for activations, one for evaluation: few jobs, every rule.
CONFIGURATION = {
    **TINY,
    "dataset": {"kind": "demo", "train_images": 8, "val_images": 4, "image_size": 64},
    "splits": {"activations": ["train"], "segmentation": ["val"]},
    "sweep": {"refined_thresholds": []},
    "thresholds": [0.5],
    # One threshold is chosen by a rule, the others are given. Without iterations numba compiles less.
    "refine_seeds": {
        "cam": {
            "foreground_threshold": 0.3,
            "background_threshold": 0.05,
            "crf": {"iterations": 0},
        },
        "amn": {
            "foreground_threshold": "auto",
            "background_threshold": "auto",
            "crf": {"iterations": 0},
        },
    },
    # Long enough to be caught at work.
    DISTURBED: {"training": {**TINY_TRAINING, "epochs": 10}},
}
# What an administrator would change in slurm/profile.yaml, for nodes that are all this one machine.
SITE = {
    "jobs": 4,
    "latency-wait": 20,
    "slurm-init-seconds-before-status-checks": 1,
    "set-threads": {rule: 1 for rule in ON_GPU},
}


def caught(process: int) -> set[int]:
    """Signals that a process answers; none if it has ended."""
    try:
        status = Path(f"/proc/{process}/status").read_text()
    except OSError:
        return set()
    mask = next(line.split()[1] for line in status.splitlines() if line.startswith("SigCgt:"))
    return {number for number in range(1, 65) if int(mask, 16) >> (number - 1) & 1}


@dataclass
class SlurmCheckout:
    """A checkout in which `snakemake --profile slurm all` runs on the test cluster."""

    folder: Path
    cluster: Cluster
    runs: list[subprocess.Popen[str]] = field(default_factory=list)

    def configure(self, profile: dict[str, Any]) -> None:
        """Write the configuration, and the profile with some changes."""
        demo = yaml.safe_load((REPOSITORY / "config/config.yaml").read_text())
        text = yaml.safe_dump(merge(demo, CONFIGURATION))
        (self.folder / "config/config.yaml").write_text(text)
        given = yaml.safe_load((REPOSITORY / "slurm/profile.yaml").read_text())
        site = SITE if self.cluster.accounting else {**SITE, "slurm-status-command": "squeue"}
        (self.folder / "slurm").mkdir(exist_ok=True)
        text = yaml.safe_dump(merge(given, {**site, **profile}))
        (self.folder / "slurm/profile.yaml").write_text(text)

    def start(self, target: str, *arguments: str) -> subprocess.Popen[str]:
        """Type `snakemake --profile slurm TARGET …`."""
        folders = [self.folder / "bin", Path(sys.executable).parent]
        given = self.cluster.environment
        environment = {
            **given,
            "OMP_NUM_THREADS": "1",
            "PATH": ":".join([*map(str, folders), given["PATH"]]),
        }
        with (self.folder / "output.txt").open("a") as output:
            run = subprocess.Popen(
                ["snakemake", "--profile", "slurm", target, *arguments],
                cwd=self.folder, env=environment, stdout=output, stderr=output, text=True,
                start_new_session=True,
            )  # fmt: skip
        self.runs.append(run)
        return run

    def kill(self) -> None:
        """Kill each Snakemake that still runs here, at once; its jobs stay."""
        for run in self.runs:
            if run.poll() is None:
                os.killpg(run.pid, signal.SIGKILL)
                run.wait()

    def finish(self, process: subprocess.Popen[str], seconds: float = RUN_SECONDS) -> None:
        """Wait for a good end."""
        try:
            code: int | str = process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.kill()
            code = "timeout"
        assert code == 0, (
            f"{code}\n{self.output[-5000:]}\n{self.cluster.run('squeue', check=False)}"
        )

    @property
    def output(self) -> str:
        """What Snakemake printed."""
        return (self.folder / "output.txt").read_text()

    def log(self, rule: str) -> str:
        """Log of a rule's job; its jobs' logs one after another if there are several."""
        files = sorted((self.folder / "results/tiny/logs" / rule).glob("*.log"))
        return "".join(file.read_text() for file in files)

    def slurm_log(self, rule: str) -> str:
        """What Slurm and the Snakemake inside wrote of a rule's failed jobs."""
        files = (self.folder / ".snakemake/slurm_logs" / f"rule_{rule}").rglob("*.log")
        return "".join(file.read_text() for file in sorted(files))

    def summary(self) -> dict[str, Any]:
        """The figures; wall seconds differ by nature."""
        return {**json.loads((self.folder / SUMMARY).read_text()), "seconds": None}

    def hold_training(self, seconds: float = SECONDS) -> int:
        """Wait until the training takes its steps and stop it there (SIGSTOP); its process.

        Held, it cannot end before the test has disturbed it, on however fast a machine.
        """

        def at_work() -> bool:
            # The loop alone answers this signal; before it the stage ignores it.
            return signal.SIGUSR1 in caught(self.process_of(DISTURBED))

        until(seconds, "the first step of the training", at_work)
        process = self.process_of(DISTURBED)
        os.kill(process, signal.SIGSTOP)
        return process

    def process_of(self, stage: str) -> int:
        """The process of a stage; 0 if there is none."""
        wanted = [b"-m", f"workflow_scripts.{stage}".encode()]
        for process in Path("/proc").glob("[0-9]*"):
            try:
                words = (process / "cmdline").read_bytes().split(b"\0")
                here = (process / "cwd").readlink() == self.folder
            except OSError:
                continue
            if here and words[1:3] == wanted:
                return int(process.name)
        return 0


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    """A running cluster with accounts, or without where there is no database."""
    required = os.environ.get("REQUIRE_SLURM") == "1"
    accounting = required or not missing(accounting=True)
    if reason := missing(accounting):
        if required:
            raise AssertionError(reason)
        pytest.skip(reason)
    with tempfile.TemporaryDirectory(prefix="slurm-") as folder:
        made = Cluster(Path(folder) / "cluster", accounting)
        made.folder.mkdir()
        try:
            made.start()
            yield made
        finally:
            made.stop()


@pytest.fixture(scope="session")
def undisturbed(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> SlurmCheckout:
    """A checkout in which the whole workflow has run on the cluster."""
    folder = copy_checkout(tmp_path_factory.mktemp("undisturbed")).folder
    script = folder / "bin/snakemake"
    script.parent.mkdir()
    polling = REPOSITORY / "tests/slurm/snakemake_polling.py"
    script.write_text(f'#!/bin/sh\nexec {sys.executable} {polling} "$@"\n')
    script.chmod(0o755)
    checkout = SlurmCheckout(folder, cluster)
    checkout.configure({})
    try:
        checkout.finish(checkout.start("all"))
    finally:
        checkout.kill()
    return checkout


@pytest.fixture
def disturbed(undisturbed: SlurmCheckout, tmp_path: Path) -> Iterator[SlurmCheckout]:
    """A copy of it from before the training of CAM's segmentation network."""
    folder = tmp_path / "checkout"
    shutil.copytree(undisturbed.folder, folder, symlinks=True)
    (folder / "output.txt").unlink()
    shutil.rmtree(folder / "results/tiny/0/cam/t0.50/segmentation")
    shutil.rmtree(folder / "results/tiny/0/cam/t0.50/evaluation/segmentation")
    (folder / SUMMARY).unlink()
    shutil.rmtree(folder / "results/tiny/logs" / DISTURBED)
    checkout = SlurmCheckout(folder, undisturbed.cluster)
    yield checkout
    checkout.kill()
    numbers = checkout.cluster.jobs()
    if numbers:
        checkout.cluster.run("scancel", *numbers, check=False)
        until(SECONDS, "end of the jobs", lambda: not checkout.cluster.jobs())
