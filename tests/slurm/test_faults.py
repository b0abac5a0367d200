"""What clusters do to jobs; each run ends with the figures of the undisturbed one."""

import os
import re
import signal
import time
from pathlib import Path

import pytest

from tests.slurm.cluster import end, steps_of, until
from tests.slurm.conftest import DISTURBED, SECONDS, SUMMARY

pytestmark = pytest.mark.slurm


def gone(process):
    return not Path(f"/proc/{process}").exists()


def place(checkout, variable):
    """What Slurm gave the last training job, from its log."""
    return re.search(rf"{variable}=(\w+)", checkout.log(DISTURBED))[1]


def accounts(checkout, job, column):
    """What Slurm's accounts say of a job."""
    if not checkout.cluster.accounting:
        pytest.skip("needs accounting (slurmdbd and MariaDB)")
    return checkout.cluster.run("sacct", "-X", "-n", "-P", "-j", job, "-o", column).strip()


def test_killed_training_process(disturbed, undisturbed):
    run = disturbed.start(SUMMARY)
    process = disturbed.hold_training()
    os.kill(process, signal.SIGKILL)
    disturbed.finish(run)
    assert "Trying to restart job" in disturbed.output
    assert f"taking over from process {process}" in disturbed.log(DISTURBED)
    assert disturbed.summary() == undisturbed.summary()


def test_cancelled_job_resumes(disturbed, undisturbed):
    run = disturbed.start(SUMMARY)
    process = disturbed.hold_training()
    job = place(disturbed, "SLURM_JOB_ID")
    disturbed.cluster.run("scancel", job)
    until(SECONDS, "end of the training", lambda: gone(process))
    disturbed.finish(run)
    assert accounts(disturbed, job, "State").startswith("CANCELLED")
    assert re.search(r"resuming at step [1-9]", disturbed.log(DISTURBED))
    assert disturbed.summary() == undisturbed.summary()


def test_job_over_its_memory_gets_more(disturbed, undisturbed):
    limits = {DISTURBED: {"mem_mb": "350 if attempt == 1 else 16000"}}
    disturbed.configure({"set-resources": limits})
    disturbed.finish(disturbed.start(SUMMARY))
    assert "Trying to restart job" in disturbed.output
    assert "exceeded memory limit" in disturbed.slurm_log(DISTURBED)
    assert disturbed.summary() == undisturbed.summary()


def test_job_over_its_time_resumes_with_more(disturbed, undisturbed):
    """Held, the training would go on for ever; Slurm's warning wakes it and lets it save its state."""
    begun = time.monotonic()
    disturbed.configure({"set-resources": {DISTURBED: {"runtime": "60 * attempt"}}})
    run = disturbed.start(SUMMARY)
    process = disturbed.hold_training()
    job = place(disturbed, "SLURM_JOB_ID")
    # A limit one or two minutes ahead, however long the machine took to get here: the profile asks for
    # a warning earlier than that, so Slurm warns at its next look.
    minutes = int(time.monotonic() - begun) // 60 + 2
    disturbed.cluster.run("scontrol", "update", f"JobId={job}", f"TimeLimit={minutes}")
    until(SECONDS, "Slurm's warning", lambda: gone(process))
    disturbed.finish(run)
    assert f"exit status {128 + signal.SIGUSR1}" in disturbed.slurm_log(DISTURBED)
    assert "Trying to restart job" in disturbed.output
    assert re.search(r"resuming at step [1-9]", disturbed.log(DISTURBED))
    assert accounts(disturbed, place(disturbed, "SLURM_JOB_ID"), "Timelimit") == "02:00:00"
    assert disturbed.summary() == undisturbed.summary()


def test_killed_snakemake_and_the_documented_restart(disturbed, undisturbed):
    disturbed.start(SUMMARY)
    disturbed.hold_training()
    disturbed.kill()
    name = re.search(r"SLURM run ID: (\S+)", disturbed.output)[1]
    disturbed.cluster.run("scancel", "--name", name)
    until(SECONDS, "end of the jobs", lambda: not disturbed.cluster.jobs())
    disturbed.finish(disturbed.start(SUMMARY, "--unlock"))
    disturbed.finish(disturbed.start(SUMMARY, "--rerun-incomplete"))
    assert re.search(r"resuming at step [1-9]", disturbed.log(DISTURBED))
    assert disturbed.summary() == undisturbed.summary()


def test_an_orphan_and_a_second_submission_do_not_meet(disturbed, undisturbed):
    """Without `scancel` the second job waits for the first, and finds its work done."""
    disturbed.start(SUMMARY)
    orphan = disturbed.hold_training()
    disturbed.kill()
    disturbed.finish(disturbed.start(SUMMARY, "--unlock"))
    run = disturbed.start(SUMMARY, "--rerun-incomplete")
    waits = f"is being written by process {orphan}"
    until(SECONDS, "the wait of the second job", lambda: waits in disturbed.log(DISTURBED))
    os.kill(orphan, signal.SIGCONT)
    disturbed.finish(run)
    assert "nothing is left to do" in disturbed.log(DISTURBED)
    assert disturbed.summary() == undisturbed.summary()


def test_controller_down_for_a_while(disturbed, undisturbed):
    if not disturbed.cluster.accounting:
        pytest.skip("needs accounting (slurmdbd and MariaDB)")
    run = disturbed.start(SUMMARY)
    process = disturbed.hold_training()
    disturbed.cluster.kill("slurmctld")
    time.sleep(20)
    assert not disturbed.cluster.succeeds("squeue")
    disturbed.cluster.launch("slurmctld")
    os.kill(process, signal.SIGCONT)
    disturbed.finish(run)
    assert "Trying to restart job" not in disturbed.output
    assert disturbed.summary() == undisturbed.summary()


def test_lost_node(disturbed, undisturbed):
    """The node's daemon and all its processes end at once; Slurm starts the job on another node."""
    run = disturbed.start(SUMMARY)
    disturbed.hold_training()
    node, job = place(disturbed, "SLURMD_NODENAME"), place(disturbed, "SLURM_JOB_ID")
    disturbed.cluster.kill(f"slurmd.{node}")
    end(steps_of(disturbed.cluster.folder))
    try:
        disturbed.finish(run)
    finally:
        disturbed.cluster.launch(f"slurmd.{node}")
        until(SECONDS, "return of the node", disturbed.cluster.ready)
    assert place(disturbed, "SLURM_JOB_ID") == job
    assert place(disturbed, "SLURMD_NODENAME") != node
    assert disturbed.summary() == undisturbed.summary()
