import os

import pytest

from workflow_scripts.planning.failure import (
    Failure,
    explain_failure,
    read_failures,
    resume_command,
    tell_report,
    unlock_after_kill,
)
from workflow_scripts.storage.ownership import machine, process_start

LOG = """
SLURM run ID: 1f2e3d
[Sun Nov 22 19:12:25 2026]
Error in rule train_cam:
    message: SLURM-job '12' failed, SLURM status is: 'TIMEOUT'. Reason: Unknown.
    jobid: 4
    output: results/demo/0/cam/model.safetensors
    log: {folder}/train_cam.log, /home/me/.snakemake/slurm_logs/12.log (check log file(s) for error details)
    shell:
        python -m workflow_scripts.train_cam
        (command exited with non-zero exit code)
    external_jobid: 12
Trying to restart job 4.
[Sun Nov 22 19:14:25 2026]
Error in rule train_cam:
    jobid: 4
    log: {folder}/train_cam.log, /home/me/.snakemake/slurm_logs/12.log (check log file(s) for error details)
[Sun Nov 22 19:15:25 2026]
Error in rule refine_seeds:
    jobid: 9
    log: {folder}/refine_seeds.log (check log file(s) for error details)
"""


def test_each_failed_job_is_found_once(tmp_path):
    failures = read_failures(LOG.format(folder=tmp_path))
    assert [failure.rule for failure in failures] == ["train_cam", "refine_seeds"]
    assert failures[1] == Failure("refine_seeds", (tmp_path / "refine_seeds.log",))


def test_the_screen_shows_rule_tail_and_how_to_go_on(tmp_path):
    log = tmp_path / "snakemake.log"
    log.write_text(LOG.format(folder=tmp_path))
    (tmp_path / "refine_seeds.log").write_text("".join(f"line {number}\n" for number in range(100)))
    screen = explain_failure([str(log)], ["--profile", "slurm", "all"], tmp_path / "results")
    assert f"refine_seeds failed. The end of {tmp_path}/refine_seeds.log:" in screen
    assert "line 99" in screen and "line 50" not in screen
    assert "no log was written" in screen
    assert "snakemake --profile slurm all --rerun-incomplete" in screen
    assert "scancel --name 1f2e3d" in screen
    assert len(screen.splitlines()) < 60


def test_a_run_that_made_its_report_says_where(tmp_path):
    log, report = tmp_path / "snakemake.log", tmp_path / "report.html"
    log.write_text("Finished jobid: 8 (Rule: make_pages)\n")
    assert tell_report([str(log), str(tmp_path / "none.log")], report) == ""
    log.write_text("Finished jobid: 9 (Rule: render_report)\n29 of 30 steps (97%) done\n")
    assert str(report) in tell_report([str(log)], report)


def test_a_rule_without_a_log_is_named_too(tmp_path):
    log = tmp_path / "snakemake.log"
    log.write_text("Error in rule make_a:\n    jobid: 1\n" + LOG.format(folder=tmp_path))
    rules = [failure.rule for failure in read_failures(log.read_text())]
    assert rules == ["make_a", "train_cam", "refine_seeds"]
    assert f"make_a failed: see {log}" in explain_failure([str(log)], ["all"], tmp_path / "results")


def test_without_a_log_it_still_says_how_to_go_on(tmp_path):
    screen = explain_failure([str(tmp_path / "missing")], ["all"], tmp_path / "results")
    assert "snakemake all --rerun-incomplete" in screen
    assert explain_failure([], ["all"], tmp_path / "results") == screen


def test_named_results_of_an_earlier_run_are_told(tmp_path):
    """A page that was asked for and lies there would be taken for today's."""
    run = tmp_path / "results" / "mine"
    run.mkdir(parents=True)
    old, new, other = run / "report.html", run / "summary.json", tmp_path / "mine.yaml"
    for path in (old, new, other):
        path.write_text("")
    os.utime(old, (1, 1))
    os.utime(other, (1, 1))
    # What is made while this run goes on is as old as it says.
    os.utime(new, (2**33, 2**33))
    asked = [str(old), str(new), str(run / "none.csv"), "all", "--configfile", str(other)]
    screen = explain_failure([], asked, run)
    told, _, command = screen.partition("What is done is kept.")
    assert str(old) in told and "earlier run" in told
    assert str(new) not in told and str(other) not in told and "none.csv" not in told
    assert str(old) in command


def test_the_command_is_quoted_and_not_repeated():
    command = resume_command(["--configfile", "my config.yaml", "--rerun-incomplete"])
    assert command == "snakemake --configfile 'my config.yaml' --rerun-incomplete"


@pytest.fixture
def locked(tmp_path):
    """Snakemake's folder with a lock, and a way to leave the note of a process."""
    (tmp_path / "locks").mkdir()
    (tmp_path / "locks" / "0.input.lock").write_text("index.csv\n")
    (tmp_path / "running").mkdir()

    def note(process, place=None, started="1"):
        place = machine() if place is None else place
        (tmp_path / "running" / f"{process}.run").write_text(f"{place}\n{started}")

    return tmp_path, note


def has_lock(folder):
    return (folder / "locks" / "0.input.lock").exists()


def test_the_lock_of_a_killed_run_goes(locked):
    folder, note = locked
    note(os.getpid(), started="long ago")
    note(2**22 + 1)
    assert unlock_after_kill(folder) and not has_lock(folder)
    assert [path.name for path in (folder / "running").iterdir()] == [f"{os.getpid()}.run"]
    assert not unlock_after_kill(folder)


@pytest.mark.parametrize("why", ["alive", "elsewhere", "unknown", "damaged"])
def test_the_lock_of_a_run_that_may_be_alive_stays(locked, why):
    folder, note = locked
    note(2**22 + 1)
    if why == "alive":
        note(os.getppid(), started=process_start(os.getppid()))
    elif why == "elsewhere":
        note(2**22 + 2, place="another machine")
    elif why == "damaged":
        (folder / "running" / "me.run").write_text(machine())
    else:
        (folder / "running" / f"{2**22 + 1}.run").unlink()
    assert not unlock_after_kill(folder) and has_lock(folder)


def test_a_folder_that_cannot_be_written_is_left_to_snakemake(tmp_path):
    (tmp_path / "file").write_text("")
    assert not unlock_after_kill(tmp_path / "file")
