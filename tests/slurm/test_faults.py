"""What clusters do to jobs; each run ends with the figures of the undisturbed one."""

import os
import re
import signal
import time
from pathlib import Path

import pytest

from tests.slurm.cluster import end, steps_of, until
from tests.slurm.conftest import SUMMARY

pytestmark = pytest.mark.slurm
RULE = "train_segmentation"


def pending(process: int, number: int) -> bool:
    """Whether a signal waits for a process that is held."""
    status = Path(f"/proc/{process}/status").read_text()
    masks = re.findall(r"^(?:SigPnd|ShdPnd):\s*(\w+)", status, re.MULTILINE)
    return any(int(mask, 16) >> (number - 1) & 1 for mask in masks)


def kill_snakemake(run):
    os.killpg(run.pid, signal.SIGKILL)
    run.wait()


def test_killed_training_process(disturbed, long_run):
    run = disturbed.start(SUMMARY)
    os.kill(disturbed.hold_training(), signal.SIGKILL)
    disturbed.finish(run)
    assert "Trying to restart job" in disturbed.output
    assert disturbed.summary() == long_run.summary()


def test_cancelled_job_resumes(disturbed, long_run):
    run = disturbed.start(SUMMARY)
    process = disturbed.hold_training()
    job = re.search(r"SLURM_JOB_ID=(\d+)", disturbed.log(RULE))[1]
    disturbed.cluster.run("scancel", job)
    until(60, "end of the training", lambda: not Path(f"/proc/{process}").exists())
    disturbed.finish(run)
    assert re.search(r"resuming at step [1-9]", disturbed.log(RULE))
    assert disturbed.summary() == long_run.summary()


def test_job_over_its_memory_gets_more(disturbed, long_run):
    disturbed.configure({"set-resources": {RULE: {"mem_mb": "350 if attempt == 1 else 16000"}}})
    disturbed.finish(disturbed.start(SUMMARY))
    assert "Trying to restart job" in disturbed.output
    assert disturbed.summary() == long_run.summary()


def test_job_over_its_time_resumes_with_more(disturbed, long_run):
    """Held, the training would go on for ever; Slurm's warning lets it save its state."""
    warning = {"slurm_extra": "'--signal=USR1@10'", "mem_mb": 4000, "runtime": 60}
    limits = {RULE: {"runtime": "1 if attempt == 1 else 60"}}
    disturbed.configure({"set-resources": limits, "default-resources": warning})
    run = disturbed.start(SUMMARY)
    process = disturbed.hold_training()
    until(120, "warning", lambda: pending(process, signal.SIGUSR1))
    os.kill(process, signal.SIGCONT)
    disturbed.finish(run)
    assert "Trying to restart job" in disturbed.output
    assert re.search(r"resuming at step [1-9]", disturbed.log(RULE))
    assert disturbed.summary() == long_run.summary()


def test_killed_snakemake_and_the_documented_restart(disturbed, long_run):
    run = disturbed.start(SUMMARY)
    disturbed.hold_training()
    kill_snakemake(run)
    name = re.search(r"SLURM run ID: (\S+)", disturbed.output)[1]
    disturbed.cluster.run("scancel", "--name", name)
    until(60, "end of the jobs", lambda: not disturbed.cluster.jobs())
    disturbed.finish(disturbed.start(SUMMARY, "--unlock"))
    disturbed.finish(disturbed.start(SUMMARY, "--rerun-incomplete"))
    assert disturbed.summary() == long_run.summary()


def test_an_orphan_and_a_second_submission_do_not_meet(disturbed, long_run):
    """Without `scancel` the second job waits for the first, and finds its work done."""
    run = disturbed.start(SUMMARY)
    orphan = disturbed.hold_training()
    kill_snakemake(run)
    disturbed.finish(disturbed.start(SUMMARY, "--unlock"))
    run = disturbed.start(SUMMARY, "--rerun-incomplete")
    until(60, "second job", lambda: f"is being written by process {orphan}" in disturbed.log(RULE))
    os.kill(orphan, signal.SIGCONT)
    disturbed.finish(run)
    assert "nothing is left to do" in disturbed.log(RULE)
    assert disturbed.summary() == long_run.summary()


def test_controller_down_for_a_while(disturbed, long_run):
    if not disturbed.cluster.accounting:
        pytest.skip("needs accounting (slurmdbd and MariaDB)")
    run = disturbed.start(SUMMARY)
    process = disturbed.hold_training()
    disturbed.cluster.kill("slurmctld")
    time.sleep(20)
    disturbed.cluster.launch("slurmctld")
    os.kill(process, signal.SIGCONT)
    disturbed.finish(run)
    assert disturbed.summary() == long_run.summary()


def test_lost_node(disturbed, long_run):
    """The node's daemon and all its processes end at once; Slurm starts the job on another node."""
    run = disturbed.start(SUMMARY)
    disturbed.hold_training()
    node = re.search(r"SLURMD_NODENAME=(gpu\d)", disturbed.log(RULE))[1]
    disturbed.cluster.kill(f"slurmd.{node}")
    end(steps_of(disturbed.cluster.folder))
    try:
        disturbed.finish(run)
    finally:
        disturbed.cluster.launch(f"slurmd.{node}")
        until(60, "return of the node", disturbed.cluster.ready)
    assert disturbed.summary() == long_run.summary()
