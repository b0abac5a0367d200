"""Fake devices and a fake driver: neither lists nor locks need a GPU."""

import contextlib
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from workflow_scripts.errors import InputError
from workflow_scripts.training import distributed, gpus
from workflow_scripts.training.distributed import choose_device, loader_workers
from workflow_scripts.training.gpus import lock_devices, visible_gpus

REPOSITORY = Path(__file__).resolve().parents[2]
TAKE = """
import os, sys
from pathlib import Path
from workflow_scripts.training.gpus import take_gpu
take_gpu(sys.argv[2:], Path(sys.argv[1]))
print(os.environ.get("CUDA_VISIBLE_DEVICES"), flush=True)
sys.stdin.readline()
"""
LOCK = """
import sys
from pathlib import Path
from workflow_scripts.training.gpus import lock_devices
print(*lock_devices(sys.argv[3:], int(sys.argv[2]), Path(sys.argv[1])), flush=True)
sys.stdin.readline()
"""


@pytest.fixture
def start(tmp_path):
    """Starts jobs on a machine with some fake GPUs."""
    jobs = []

    def run(program, *arguments):
        job = subprocess.Popen(
            [sys.executable, "-c", program, str(tmp_path / "locks"), *arguments],
            cwd=REPOSITORY, env={}, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        jobs.append(job)
        return job

    yield run
    for job in jobs:
        job.kill()
        job.communicate()


def device(job):
    return job.stdout.readline().strip()


def test_two_jobs_use_both_gpus(start):
    assert {device(start(TAKE, "0", "1")), device(start(TAKE, "0", "1"))} == {"0", "1"}


def test_a_third_job_waits_until_one_is_killed(start):
    first, second = start(TAKE, "0", "1"), start(TAKE, "0", "1")
    devices = {device(first): first, device(second): second}
    third = start(TAKE, "0", "1")
    with pytest.raises(subprocess.TimeoutExpired):
        third.wait(0.5)
    devices["1"].kill()
    assert device(third) == "1"


def test_names_of_the_users_are_kept_to(start):
    jobs = [start(TAKE, "3", "GPU-a1b2") for _ in range(2)]
    assert {device(job) for job in jobs} == {"3", "GPU-a1b2"}


def test_without_gpus_nothing_is_locked(start, tmp_path):
    assert device(start(TAKE)) == "None"
    assert not (tmp_path / "locks").exists()


def test_two_jobs_of_two_gpus_each_go_one_after_the_other(start):
    jobs = [start(LOCK, "2", "0", "1") for _ in range(4)]
    done = 0
    deadline = time.monotonic() + 60
    while done < 4:
        assert time.monotonic() < deadline
        for job in [job for job in jobs if job.poll() is None]:
            # It may have ended meanwhile.
            with contextlib.suppress(BrokenPipeError):
                job.stdin.write("\n")
                job.stdin.flush()
        done = sum(job.poll() is not None for job in jobs)
        time.sleep(0.1)
    assert [device(job) for job in jobs] == ["0 1"] * 4


def test_a_job_that_waits_holds_nothing(start):
    first = start(LOCK, "1", "0", "1")
    assert device(first) == "0"
    both = start(LOCK, "2", "0", "1")
    with pytest.raises(subprocess.TimeoutExpired):
        both.wait(1)
    assert device(start(LOCK, "1", "0", "1")) == "1"


def test_patience_ends_with_a_word_on_who_holds_them(start, tmp_path):
    first = start(LOCK, "1", "0")
    assert device(first) == "0"
    with pytest.raises(InputError, match=f"0 by process {first.pid}.*device: cpu"):
        lock_devices(["0"], 1, tmp_path / "locks", patience_hours=0)


def test_the_processes_of_a_job_get_one_each(tmp_path):
    """By the real torchrun, which a user may also call by hand."""
    program = tmp_path / "program.py"
    program.write_text(
        "import os, sys\n"
        "from pathlib import Path\n"
        "from workflow_scripts.training.gpus import take_gpu\n"
        "taken = take_gpu(['4', '5', '6'], Path(sys.argv[1]))\n"
        "Path(sys.argv[1], os.environ['RANK']).write_text(os.environ['CUDA_VISIBLE_DEVICES'])\n"
    )
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    done = subprocess.run(
        [*torchrun, program, tmp_path], env={"PYTHONPATH": str(REPOSITORY), "PATH": "/usr/bin:/bin"},
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert [(tmp_path / rank).read_text() for rank in "01"] == ["4", "5"]


def test_devices_of_a_slurm_job_are_its_own(monkeypatch):
    """Where Slurm hides the others, two jobs of a node both see a device 0: no reason to wait."""
    monkeypatch.delenv("SLURM_JOB_ID", raising=False)
    without = gpus.lock_folder()
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    assert gpus.lock_folder() != without


def test_more_processes_than_devices_is_an_error_and_no_wait(tmp_path, monkeypatch):
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    with pytest.raises(InputError, match="was given 2 GPUs, but this machine lets it see 1"):
        gpus.take_gpu(["0"], tmp_path)


class Driver:
    """A machine with GPUs as NVML describes them: (UUID, UUIDs of its slices); None is out of reach."""

    def __init__(self, *gpus):
        self.gpus = gpus
        self.names = [name for gpu in gpus if gpu for name in (gpu[0], *gpu[1])]

    def _handle(self, name, pointer):
        pointer._obj.value = 1 + self.names.index(name)
        return 0

    def nvmlInit_v2(self):
        return 0

    def nvmlShutdown(self):
        return 0

    def nvmlDeviceGetCount_v2(self, pointer):
        pointer._obj.value = len(self.gpus)
        return 0

    def nvmlDeviceGetHandleByIndex_v2(self, number, pointer):
        gpu = self.gpus[number]
        return 4 if gpu is None else self._handle(gpu[0], pointer)

    def nvmlDeviceGetUUID(self, handle, buffer, length):
        buffer.value = self.names[handle.value - 1].encode()
        return 0

    def _slices(self, handle):
        return next(
            parts for name, parts in filter(None, self.gpus) if name == self.names[handle.value - 1]
        )

    def nvmlDeviceGetMigMode(self, handle, now, pending):
        now._obj.value = bool(self._slices(handle))
        return 0

    def nvmlDeviceGetMaxMigDeviceCount(self, handle, pointer):
        pointer._obj.value = 7
        return 0

    def nvmlDeviceGetMigDeviceHandleByIndex(self, handle, number, pointer):
        parts = self._slices(handle)
        return self._handle(parts[number], pointer) if number < len(parts) else 6


WHOLE = Driver(("GPU-aa11", []), ("GPU-ab22", []), ("GPU-cc33", []))
CUT = Driver(("GPU-aa11", ["MIG-1", "MIG-2"]), ("GPU-ab22", []))


@pytest.mark.parametrize(
    "driver, given, expected",
    [
        (WHOLE, None, ["0", "1", "2"]),
        (WHOLE, "", []),
        (WHOLE, "1", ["1"]),
        (WHOLE, "2, 0", ["2", "0"]),
        (WHOLE, "1,1", ["1"]),
        (WHOLE, "0,-1,1", ["0"]),
        (WHOLE, "1,5,0", ["1"]),
        (WHOLE, "NoDevFiles", []),
        (WHOLE, "GPU-cc33,GPU-aa", ["GPU-cc33", "GPU-aa"]),
        (WHOLE, "GPU-dd44", []),
        (CUT, None, ["MIG-1", "MIG-2", "1"]),
        (CUT, "MIG-2", ["MIG-2"]),
        (CUT, "MIG-3", []),
        (Driver(None, ("GPU-ab22", [])), None, ["1"]),
        (Driver(), "0", []),
    ],
)
def test_what_a_process_may_use(monkeypatch, tmp_path, driver, given, expected):
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if given is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", given)
    assert visible_gpus(driver, tmp_path / "none") == expected


@pytest.mark.parametrize(
    "given, expected", [(None, ["0", "1"]), ("1,2", ["1"]), ("GPU-1,MIG-2", ["GPU-1", "MIG-2"])]
)
def test_the_drivers_folder_serves_where_its_library_is_missing(
    monkeypatch, tmp_path, given, expected
):
    monkeypatch.setattr(gpus, "_load_nvml", lambda: None)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if given is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", given)
    for name in ("0000:01:00.0", "0000:41:00.0"):
        (tmp_path / name).mkdir()
    assert visible_gpus(folder=tmp_path) == expected


def test_looking_for_gpus_imports_no_torch():
    program = (
        "import sys\n"
        "from workflow_scripts.training.gpus import visible_gpus\n"
        "visible_gpus()\n"
        "print('torch' in sys.modules)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=REPOSITORY, capture_output=True, text=True, check=True
    )
    assert done.stdout == "False\n"


@pytest.fixture
def machine(monkeypatch, tmp_path):
    """A machine with GPUs, which torch can use or not."""

    def describe(devices, usable):
        monkeypatch.setattr(gpus, "_taken", [])
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
        monkeypatch.setattr(distributed, "visible_gpus", lambda: devices)
        monkeypatch.setattr(gpus, "lock_folder", lambda: tmp_path)
        monkeypatch.setattr(torch.cuda, "is_available", lambda: usable)

    return describe


def test_a_gpu_that_was_asked_for_and_is_not_there(machine):
    machine([], usable=False)
    with pytest.raises(InputError, match=r"none is visible .*CUDA_VISIBLE_DEVICES.*`device: cpu`"):
        choose_device("cuda")
    assert choose_device("auto") == choose_device("cpu") == torch.device("cpu")


@pytest.mark.parametrize("name", ["auto", "cuda"])
def test_a_gpu_that_torch_cannot_use_is_not_passed_over(machine, name):
    machine(["0"], usable=False)
    with pytest.raises(InputError, match=r"GPU 0 is here, but this PyTorch.*`device: cpu`"):
        choose_device(name)
    assert choose_device("cpu") == torch.device("cpu")


def test_a_gpu_that_is_there_is_taken(machine):
    machine(["0"], usable=True)
    assert choose_device("auto") == choose_device("cuda") == torch.device("cuda", 0)


@pytest.mark.parametrize(
    "kind, cores, expected",
    [("cpu", 1, 0), ("cpu", 8, 7), ("cuda", 1, 1), ("cuda", 2, 2), ("cuda", 8, 8)],
)
def test_loader_processes_follow_the_cores(monkeypatch, kind, cores, expected):
    monkeypatch.setattr("os.cpu_count", lambda: 64)
    assert loader_workers(cores, torch.device(kind)) == expected
