"""A training run that is killed, at any moment, ends with the same weights."""

import csv
import random
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

MOMENTS = 20
FORKED = Path(__file__).with_name("forked_stage.py")


class Runs:
    """Runs of CAM's training on the tiny dataset, all into one folder."""

    def __init__(self, checkout: Path, folder: Path) -> None:
        self.folder = folder
        flags = [
            "--index", str(checkout / "results/tiny/dataset/index.csv"),
            "--output", str(folder / "model.safetensors"), "--log", str(folder / "log"),
            "--checkpoint-minutes", "0.0001", "--workers", "0", "--threads", "1",
            "--training-epochs", "3", "--training-batch-size", "4",
            "--training-augmentation-crop", "64", "--training-augmentation-resize", "none",
            "--backbone-name", "efficientnet_lite0", "--backbone-frozen-stages", "1",
            "--training-optimiser-learning-rate", "0.001",
        ]  # fmt: skip
        self.server = subprocess.Popen(
            [sys.executable, str(FORKED), "train", "cam", *flags],
            cwd=checkout, env={"PYTHONPATH": str(checkout), "PATH": "/usr/bin:/bin", "OMP_NUM_THREADS": "1"},
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
        )  # fmt: skip

    def run(self, killed_after: float | None = None) -> tuple[int, float]:
        """Exit code and seconds of a run, killed after some seconds or not."""
        assert self.server.stdin and self.server.stdout
        self.server.stdin.write("whole\n" if killed_after is None else f"{killed_after}\n")
        self.server.stdin.flush()
        code, seconds = self.server.stdout.readline().split()
        return int(code), float(seconds)

    def weights(self) -> bytes:
        return (self.folder / "model.safetensors").read_bytes()

    def losses(self) -> list[str]:
        with (self.folder / "training.csv").open() as file:
            return [row["loss"] for row in csv.DictReader(file)]

    @property
    def log(self) -> str:
        return (self.folder / "log").read_text()


@pytest.fixture
def runs(tiny_run, tmp_path):
    runs = Runs(tiny_run.folder, tmp_path / "run")
    yield runs
    runs.server.kill()
    runs.server.communicate()


def test_killed_at_twenty_moments_the_weights_are_the_same(runs):
    assert runs.run()[0] == 0
    expected, losses = runs.weights(), runs.losses()
    _, seconds = runs.run()
    assert runs.weights() == expected
    moments = random.Random(5)
    resumed = 0
    for _ in range(MOMENTS):
        shutil.rmtree(runs.folder)
        runs.run(killed_after=moments.uniform(0, 1.05 * seconds))
        assert runs.run()[0] == 0
        resumed += "resuming at step" in runs.log
        assert runs.weights() == expected
        assert runs.losses() == losses
        assert [path for path in runs.folder.iterdir() if path.name.startswith(".")] == []
    # How many moments lie between the first checkpoint and the end depends on what else the machine does.
    assert resumed
