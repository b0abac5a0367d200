"""A Snakemake that is killed: the same command goes on."""

import os
import signal
import subprocess
import sys
import time

import pytest

from tests.integration.conftest import copy_checkout

SECONDS = 120


@pytest.fixture
def command(tmp_path):
    """Starts the same command in a small checkout, each time in a process group of its own."""
    (tmp_path / "checkout").mkdir()
    checkout = copy_checkout(tmp_path / "checkout")
    checkout.configure()
    started = []

    def start():
        process = subprocess.Popen(
            [
                sys.executable, "-m", "snakemake", "results/tiny/dataset/index.csv",
                "--configfile", *checkout.base, "tiny.yaml",
            ],
            cwd=checkout.folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
            start_new_session=True,
        )  # fmt: skip
        started.append(process)
        return process, checkout.folder

    yield start
    for process in started:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


@pytest.mark.parametrize("kill", [os.kill, os.killpg], ids=["alone", "with its jobs"])
def test_the_same_command_goes_on(command, kill):
    first, folder = command()
    deadline = time.monotonic() + SECONDS
    while not (folder / "results/tiny/logs/prepare_dataset").exists():
        assert first.poll() is None and time.monotonic() < deadline
        time.sleep(0.05)
    assert list((folder / ".snakemake/locks").iterdir()) != []
    kill(first.pid, signal.SIGKILL)
    first.wait()
    second, _ = command()
    output, _ = second.communicate(timeout=SECONDS)
    assert second.returncode == 0, output
    assert "The run before was killed" in output
    assert (folder / "results/tiny/dataset/index.csv").exists()
    third, _ = command()
    output, _ = third.communicate(timeout=SECONDS)
    assert "Nothing to be done" in output and "was killed" not in output


def test_a_snakemake_that_is_at_work_keeps_its_lock(command):
    first, folder = command()
    deadline = time.monotonic() + SECONDS
    # The last of its locks, and written.
    locks = folder / ".snakemake/locks"
    while not any(lock.stat().st_size for lock in locks.glob("*.output.lock")):
        assert first.poll() is None and time.monotonic() < deadline
        time.sleep(0.01)
    os.kill(first.pid, signal.SIGSTOP)
    second, _ = command()
    output, _ = second.communicate(timeout=SECONDS)
    os.kill(first.pid, signal.SIGCONT)
    assert second.returncode != 0 and "cannot be locked" in output
    assert first.wait(SECONDS) == 0
