"""Which GPU a job may use where no scheduler says so.

Snakemake counts GPUs (`--resources gpu=2`) but does not say which one a job got. So each process locks a
device and sees that one alone. The kernel lets go of a lock when its process ends, however it ends.
Programs that take no lock, and other users' jobs, are not seen: on a machine shared with them, name the
devices that are yours in CUDA_VISIBLE_DEVICES.
"""

import fcntl
import logging
import os
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from workflow_scripts.console.processes import count_here
from workflow_scripts.errors import InputError

logger = logging.getLogger(__name__)

VISIBLE = "CUDA_VISIBLE_DEVICES"
SECONDS_BETWEEN_LOOKS = 1.0
# Locks of this process, by device. They must stay open as long as it runs.
_held: dict[str, int] = {}


def lock_folder() -> Path:
    """Folder of the locks: of this user on this machine, or of this Slurm job, whose devices are its own."""
    job = os.environ.get("SLURM_JOB_ID")
    return Path(tempfile.gettempdir()) / f"wsss-gpus-{os.getuid()}{f'-{job}' if job else ''}"


def lock_device(devices: Sequence[str], folder: Path) -> str:
    """Lock one device for as long as this process runs; wait until one is free.

    Args:
        devices: What CUDA_VISIBLE_DEVICES calls them: numbers or UUIDs.
        folder: Where the locks lie; the same for all processes of the machine.
    """
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    waiting = False
    while True:
        for device in devices:
            file = os.open(folder / f"{device}.lock", os.O_RDWR | os.O_CREAT, 0o600)
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                os.close(file)
                continue
            _held[device] = file
            return device
        if not waiting:
            waiting = True
            logger.info("all GPUs (%s) are taken by other jobs: waiting", ", ".join(devices))
        time.sleep(SECONDS_BETWEEN_LOOKS)


def take_gpu(count: Callable[[], int], folder: Path | None = None) -> str | None:
    """Make this process see one GPU that no other process of this workflow and user has taken.

    To be called before it first speaks to the GPU.

    The choice is among CUDA_VISIBLE_DEVICES, which a user or Slurm may have set, else among all.

    Args:
        count: Number of GPUs that this process could use.
        folder: Where the locks lie; `lock_folder()` if None.

    Returns:
        The device, None where there is none.

    Raises:
        InputError: The job has more processes on this machine than there are devices.
    """
    if _held:
        return next(iter(_held))
    present = count()
    if not present:
        return None
    if count_here() > present:
        raise InputError(
            f"the job was given {count_here()} GPUs, but this machine lets it see {present}; lower "
            "`gpu` of this rule (`set-resources`), or look at CUDA_VISIBLE_DEVICES"
        )
    given = os.environ.get(VISIBLE)
    devices = [str(number) for number in range(present)] if given is None else given.split(",")
    device = lock_device(devices, lock_folder() if folder is None else folder)
    os.environ[VISIBLE] = device
    # Numbers name the same device in every process only where the order is fixed.
    os.environ.setdefault("CUDA_DEVICE_ORDER", "PCI_BUS_ID")
    logger.info("this process uses GPU %s", device)
    return device
