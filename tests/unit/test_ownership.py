import errno
import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from workflow_scripts.storage.atomic import hidden_beside
from workflow_scripts.storage.ownership import Ownership, machine, process_start

REPOSITORY = Path(__file__).resolve().parents[2]
HOLD = """
import sys, time
from pathlib import Path
from workflow_scripts.storage.ownership import Ownership
with Ownership(Path(sys.argv[1]), sys.argv[2], beat_seconds=0.2):
    print("held", flush=True)
    sys.stdin.readline()
    Path(sys.argv[1]).write_text("made by the other")
"""


@pytest.fixture
def hold():
    """Starts processes that own an output until a line reaches them."""
    processes = []

    def start(output, task="task"):
        process = subprocess.Popen(
            [sys.executable, "-c", HOLD, str(output), task],
            cwd=REPOSITORY, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        processes.append(process)
        assert process.stdout.readline() == "held\n"
        return process

    yield start
    for process in processes:
        process.kill()
        process.communicate()


def foreign_lock(output, **changes):
    """A lock of a process on another machine."""
    path = output.with_name(f".{output.name}.owner")
    owner = {
        "host": "node7", "machine": "elsewhere", "process": "12", "started": "34", "job": "56",
        "task": "task",
    }  # fmt: skip
    path.write_text(json.dumps({**owner, **changes}))
    return path


def test_the_lock_names_its_owner_and_goes_with_it(tmp_path, monkeypatch):
    monkeypatch.setenv("SLURM_JOB_ID", "123")
    output = tmp_path / "new folder" / "model.safetensors"
    with Ownership(output, "task") as lock:
        owner = json.loads(lock.path.read_text())
        assert owner["process"] == str(os.getpid())
        assert owner["job"] == "123"
        assert not lock.done
    assert list(output.parent.iterdir()) == []


def test_the_heartbeat_moves(tmp_path):
    with Ownership(tmp_path / "file", "task", beat_seconds=0.05) as lock:
        before = lock.path.stat().st_mtime_ns
        deadline = time.monotonic() + 5
        while lock.path.stat().st_mtime_ns == before:
            assert time.monotonic() < deadline
            time.sleep(0.02)


def test_a_second_job_waits_for_the_first(tmp_path, hold, caplog):
    output = tmp_path / "file"
    first = hold(output)
    threading.Timer(0.5, lambda: (first.stdin.write("\n"), first.stdin.flush())).start()
    with Ownership(output, "another task", stale_seconds=60) as lock:
        assert first.wait(5) == 0
        assert output.read_text() == "made by the other"
        assert not lock.done
    assert f"process {first.pid}" in caplog.text
    assert f"`kill {first.pid}` ends it" in caplog.text


def test_the_same_work_is_not_done_twice(tmp_path, hold):
    output = tmp_path / "file"
    first = hold(output)
    threading.Timer(0.5, lambda: (first.stdin.write("\n"), first.stdin.flush())).start()
    with Ownership(output, "task", stale_seconds=60) as lock:
        assert lock.done


def test_the_lock_of_a_killed_process_is_taken_over_at_once(tmp_path, hold, caplog):
    output = tmp_path / "file"
    output.write_text("of the killed process")
    first = hold(output)
    first.kill()
    with Ownership(output, "task", stale_seconds=1000) as lock:
        assert json.loads(lock.path.read_text())["process"] == str(os.getpid())
        assert not lock.done
    assert "taking over" in caplog.text


def test_half_written_files_of_a_killed_process_go(tmp_path):
    mine = [tmp_path / ".file.1a2b.partial.zip", tmp_path / "..file.resume.1a2b.partial.resume"]
    others = [tmp_path / ".profile.1a2b.partial.zip", tmp_path / ".file.resume"]
    for path in (*mine, *others):
        path.write_text("")
    (tmp_path / ".file.3c4d.partial").mkdir()
    (tmp_path / ".file.3c4d.partial" / "file").write_text("")
    (tmp_path / ".table.csv.5e6f.partial").mkdir()
    with Ownership(tmp_path / "file", "task", beside=[tmp_path / "table.csv"]):
        pass
    assert set(tmp_path.iterdir()) == set(others)


def test_a_silent_owner_on_another_machine_is_taken_over(tmp_path):
    path = foreign_lock(tmp_path / "file")
    with Ownership(tmp_path / "file", "task", beat_seconds=0.1, stale_seconds=0.5) as lock:
        assert json.loads(lock.path.read_text())["machine"] == machine()
    assert not path.exists()


def test_a_beating_owner_on_another_machine_is_waited_for(tmp_path):
    """However far its clock is off."""
    path = foreign_lock(tmp_path / "file")
    ended = threading.Event()

    def beat():
        for number in range(30):
            os.utime(path, (1000 + number, 1000 + number))
            time.sleep(0.1)
        ended.set()
        path.unlink()

    threading.Thread(target=beat).start()
    with Ownership(tmp_path / "file", "task", beat_seconds=0.1, stale_seconds=2):
        assert ended.is_set()


def test_an_owner_that_lost_its_lock_ends(tmp_path, hold):
    """It was held up for so long that another job took over: it must not write any more."""
    output = tmp_path / "file"
    first = hold(output)
    foreign = tmp_path / ".other"
    foreign.write_text("{}")
    foreign.replace(tmp_path / ".file.owner")
    assert first.wait(5) == 75
    assert not output.exists()


def test_of_many_that_find_a_stale_lock_one_goes_first(tmp_path):
    foreign_lock(tmp_path / "file")
    inside, most, guard = [0], [0], threading.Lock()

    def work():
        with Ownership(tmp_path / "file", "task", beat_seconds=0.1, stale_seconds=1.5):
            with guard:
                inside[0] += 1
                most[0] = max(most[0], inside[0])
            time.sleep(0.2)
            with guard:
                inside[0] -= 1

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
        assert not thread.is_alive()
    assert most[0] == 1


def test_a_lock_that_says_nothing_is_stale_in_time(tmp_path):
    """Its owner was killed, or met a full disk, between making the file and writing to it."""
    (tmp_path / ".file.owner").write_text("")
    with Ownership(tmp_path / "file", "task", beat_seconds=0.1, stale_seconds=0.5) as lock:
        assert json.loads(lock.path.read_text())["process"] == str(os.getpid())


def test_a_lock_that_cannot_be_written_leaves_none(tmp_path, monkeypatch):
    def full(file, content):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "write", full)
    with pytest.raises(OSError, match="No space"), Ownership(tmp_path / "file", "task"):
        pass
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("letter", ["x", "ü"])
def test_an_output_of_the_longest_name(tmp_path, letter):
    name = letter * (254 // len(letter.encode()))
    output, other = tmp_path / f"{name}a", tmp_path / f"{name}b"
    hidden_beside(output, ".1a2b.partial").mkdir()
    with Ownership(output, "task") as lock, Ownership(other, "task") as beside:
        assert lock.path != beside.path
        output.write_text("")
    assert list(tmp_path.iterdir()) == [output]


def test_processes_that_have_ended_have_no_start():
    assert process_start(os.getpid())
    child = subprocess.Popen([sys.executable, "-c", ""])
    deadline = time.monotonic() + 10
    while process_start(child.pid) is not None:
        # Ended, but not waited for: a zombie.
        assert time.monotonic() < deadline
        time.sleep(0.05)
    child.wait()
