"""What a stage does when its scheduler asks it to end."""

import os
import signal
import subprocess
import sys
import time

import pytest

from tests.slurm.conftest import caught

SECONDS = 120


@pytest.fixture
def start(tiny_run, tmp_path):
    """Starts a long training run with a loader process, in a process group of its own."""
    started = []

    def run():
        process = subprocess.Popen(
            [
                sys.executable, "-m", "workflow_scripts.train", "cam",
                "--index", "results/tiny/dataset/index.csv",
                "--output", str(tmp_path / "model.safetensors"), "--log", str(tmp_path / "log"),
                "--workers", "1", "--training-epochs", "100000", "--training-batch-size", "4",
                "--training-augmentation-crop", "64", "--training-augmentation-resize", "none",
                "--backbone-name", "efficientnet_lite0",
                "--training-optimiser-learning-rate", "0.0001",
            ],
            cwd=tiny_run.folder, env={**os.environ, "OMP_NUM_THREADS": "1"},
            stderr=subprocess.DEVNULL, start_new_session=True,
        )  # fmt: skip
        started.append(process)
        deadline = time.monotonic() + SECONDS
        while signal.SIGUSR1 not in caught(process.pid):
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.05)
        # Into the loop: the loader process is at work.
        time.sleep(2)
        return process

    yield run
    for process in started:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1])
def test_a_signal_to_all_processes_saves_the_state(start, tmp_path, number):
    """As Slurm sends it: to loader processes too."""
    process = start()
    os.killpg(process.pid, number)
    assert process.wait(SECONDS) == 128 + number
    log = (tmp_path / "log").read_text()
    assert "asked to stop: saved at step" in log
    assert (tmp_path / ".model.safetensors.resume").exists()
    assert not (tmp_path / ".model.safetensors.owner").exists()
