"""A cluster for the session, and checkouts whose workflow runs on it."""

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.integration.conftest import REPOSITORY, TINY, copy_checkout
from tests.slurm.cluster import Cluster, missing, until
from workflow_scripts.settings.base import merge

TRAINED = ("train_cam", "train_amn", "train_segmentation")
RUN_SECONDS = 600
SUMMARY = "results/tiny/summary.json"
# One method, one split for activations, one for evaluation: few jobs, every rule.
CONFIGURATION = {
    **TINY,
    "dataset": {"kind": "demo", "train_images": 8, "val_images": 4, "image_size": 64},
    "splits": {"activations": ["train"], "segmentation": ["val"]},
    "thresholds": [0.5],
    # One threshold is chosen by a rule, the others are given.
    "refine_seeds": {
        "cam": {"foreground_threshold": 0.3, "background_threshold": 0.05},
        "amn": {"foreground_threshold": "auto", "background_threshold": "auto"},
    },
}
# What an administrator would change in slurm/config.yaml, for nodes that are all this one machine.
SITE = {
    "jobs": 4,
    "latency-wait": 20,
    "slurm-init-seconds-before-status-checks": 1,
    "set-threads": {
        rule: 1 for rule in (*TRAINED, "infer_cam", "infer_amn", "evaluate_segmentation")
    },
}


@dataclass
class SlurmCheckout:
    """A checkout in which `snakemake --profile slurm all` runs on the test cluster."""

    folder: Path
    cluster: Cluster
    changes: dict[str, Any]

    def configure(self, profile: dict[str, Any]) -> None:
        """Write the configuration with its changes, and the profile with some more."""
        demo = yaml.safe_load((REPOSITORY / "config/config.yaml").read_text())
        configuration = merge(merge(demo, CONFIGURATION), self.changes)
        (self.folder / "config/config.yaml").write_text(yaml.safe_dump(configuration))
        given = yaml.safe_load((REPOSITORY / "slurm/config.yaml").read_text())
        site = SITE if self.cluster.accounting else {**SITE, "slurm-status-command": "squeue"}
        (self.folder / "slurm").mkdir(exist_ok=True)
        (self.folder / "slurm/config.yaml").write_text(yaml.safe_dump({**given, **site, **profile}))

    def start(self, target: str, *arguments: str) -> subprocess.Popen[str]:
        """Type `snakemake --profile slurm TARGET …`."""
        environment = {
            **self.cluster.environment,
            "OMP_NUM_THREADS": "1",
            "PATH": ":".join(
                [
                    str(self.folder / "bin"),
                    str(Path(sys.executable).parent),
                    self.cluster.environment["PATH"],
                ]
            ),
        }
        with (self.folder / "output.txt").open("a") as output:
            return subprocess.Popen(
                ["snakemake", "--profile", "slurm", target, *arguments],
                cwd=self.folder, env=environment, stdout=output, stderr=output, text=True,
                start_new_session=True,
            )  # fmt: skip

    def finish(self, process: subprocess.Popen[str], seconds: float = RUN_SECONDS) -> None:
        """Wait for a good end."""
        try:
            code = process.wait(seconds)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            code = "timeout"
        assert code == 0, (
            f"{code}\n{self.output[-5000:]}\n{self.cluster.run('squeue', check=False)}"
        )

    @property
    def output(self) -> str:
        return (self.folder / "output.txt").read_text()

    def log(self, rule: str) -> str:
        """Log of a rule's job; its jobs' logs one after another if there are several."""
        files = sorted((self.folder / "results/tiny/logs" / rule).glob("*.log"))
        return "".join(file.read_text() for file in files)

    def summary(self) -> dict[str, Any]:
        """The figures; wall seconds differ by nature."""
        text = (self.folder / "results/tiny/summary.json").read_text()
        return {**json.loads(text), "seconds": None}

    def hold_training(self, seconds: float = 240) -> int:
        """Wait until train_segmentation is at work and hold it there; its process.

        Held, it cannot end before the test has disturbed it, on however fast a machine.
        """
        until(seconds, "the beginning of the training", lambda: " images, " in self.log(TRAINED[2]))
        process = self.process_of(f"workflow_scripts.{TRAINED[2]}")
        os.kill(process, signal.SIGSTOP)
        return process

    def process_of(self, module: str) -> int:
        """The process of a stage."""
        for process in Path("/proc").glob("[0-9]*"):
            try:
                words = (process / "cmdline").read_bytes().split(b"\0")
                here = (process / "cwd").readlink() == self.folder
            except OSError:
                continue
            if here and words[1:3] == [b"-m", module.encode()]:
                return int(process.name)
        raise AssertionError(f"no process of {module}")


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    """A running cluster with accounts, or without where there is no database."""
    accounting = not missing(accounting=True)
    reason = missing(accounting=False)
    if reason:
        if os.environ.get("REQUIRE_SLURM") == "1":
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


def prepare(folder: Path, cluster: Cluster, **changes: Any) -> SlurmCheckout:
    """A checkout with `snakemake` first in its PATH."""
    checkout = copy_checkout(folder)
    (folder / "bin").mkdir()
    script = folder / "bin/snakemake"
    polling = REPOSITORY / "tests/slurm/snakemake_polling.py"
    script.write_text(f'#!/bin/sh\nexec {sys.executable} {polling} "$@"\n')
    script.chmod(0o755)
    return SlurmCheckout(checkout.folder, cluster, changes)


@pytest.fixture(scope="session")
def undisturbed(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> SlurmCheckout:
    """A checkout in which the whole workflow has run on the cluster."""
    checkout = prepare(tmp_path_factory.mktemp("undisturbed"), cluster)
    checkout.configure({})
    checkout.finish(checkout.start("all"))
    return checkout


# One method, and a last training long enough to be disturbed.
LONG = {
    "methods": ["cam"],
    "train_segmentation": {"training": {**TINY["train_cam"]["training"], "epochs": 30}},
}


def copy(original: SlurmCheckout, folder: Path) -> SlurmCheckout:
    """A copy of a checkout, with LONG training."""
    shutil.copytree(original.folder, folder, symlinks=True)
    (folder / "output.txt").unlink()
    checkout = SlurmCheckout(folder, original.cluster, LONG)
    checkout.configure({})
    return checkout


@pytest.fixture(scope="session")
def long_run(undisturbed: SlurmCheckout, tmp_path_factory: pytest.TempPathFactory) -> SlurmCheckout:
    """A run with a longer last training: what disturbed ones are compared with."""
    checkout = copy(undisturbed, tmp_path_factory.mktemp("long") / "checkout")
    checkout.finish(checkout.start(SUMMARY))
    return checkout


@pytest.fixture
def disturbed(long_run: SlurmCheckout, tmp_path: Path) -> Iterator[SlurmCheckout]:
    """A copy of it from before its last training."""
    checkout = copy(long_run, tmp_path / "checkout")
    shutil.rmtree(checkout.folder / "results/tiny/0/cam/auto/segmentation")
    shutil.rmtree(checkout.folder / "results/tiny/0/cam/auto/evaluation/segmentation")
    (checkout.folder / "results/tiny/summary.json").unlink()
    shutil.rmtree(checkout.folder / "results/tiny/logs/train_segmentation")
    yield checkout
    numbers = checkout.cluster.jobs()
    if numbers:
        checkout.cluster.run("scancel", *numbers, check=False)
        until(60, "end of the jobs", lambda: not checkout.cluster.jobs())
