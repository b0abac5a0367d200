"""Fake devices: a lock needs no GPU."""

import subprocess
import sys
from pathlib import Path

import pytest

from workflow_scripts.errors import InputError
from workflow_scripts.training import gpu_locks

REPOSITORY = Path(__file__).resolve().parents[2]
TAKE = """
import os, sys
from pathlib import Path
from workflow_scripts.training.gpu_locks import take_gpu
take_gpu(lambda: int(sys.argv[2]), Path(sys.argv[1]))
print(os.environ.get("CUDA_VISIBLE_DEVICES"), flush=True)
sys.stdin.readline()
"""


@pytest.fixture
def take(tmp_path):
    """Starts jobs on a machine with some fake GPUs."""
    jobs = []

    def start(count=2, **environment):
        job = subprocess.Popen(
            [sys.executable, "-c", TAKE, str(tmp_path / "locks"), str(count)],
            cwd=REPOSITORY, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        jobs.append(job)
        return job

    yield start
    for job in jobs:
        job.kill()
        job.communicate()


def device(job):
    return job.stdout.readline().strip()


def test_two_jobs_use_both_gpus(take):
    assert {device(take()), device(take())} == {"0", "1"}


def test_a_third_job_waits_until_one_is_killed(take):
    first, second = take(), take()
    devices = {device(first): first, device(second): second}
    third = take()
    with pytest.raises(subprocess.TimeoutExpired):
        third.wait(0.5)
    devices["1"].kill()
    assert device(third) == "1"


def test_a_choice_of_the_user_is_kept_to(take):
    jobs = [take(count=2, CUDA_VISIBLE_DEVICES="3,GPU-a1b2") for _ in range(2)]
    assert {device(job) for job in jobs} == {"3", "GPU-a1b2"}


def test_without_gpus_nothing_is_locked(take, tmp_path):
    assert device(take(count=0)) == "None"
    assert not (tmp_path / "locks").exists()


def test_devices_of_a_slurm_job_are_its_own(monkeypatch):
    """Where Slurm hides the others, two jobs of a node both see a device 0: no reason to wait."""
    monkeypatch.delenv("SLURM_JOB_ID", raising=False)
    without = gpu_locks.lock_folder()
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    assert gpu_locks.lock_folder() != without


def test_more_processes_than_devices_is_an_error_and_no_wait(tmp_path, monkeypatch):
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    with pytest.raises(InputError, match="was given 2 GPUs, but this machine lets it see 1"):
        gpu_locks.take_gpu(lambda: 1, tmp_path)
