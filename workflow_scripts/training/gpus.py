"""Which GPUs there are, and which of them a job may use where no scheduler says so.

Snakemake counts GPUs (`--resources gpu=2`) but does not say which ones a job got. So each job locks as
many devices as it has processes, all or none, and each process sees one of them alone. The kernel lets go
of a lock when its process ends, however it ends. Programs that take no lock, and other users' jobs, are
not seen: on a machine shared with them, name the devices that are yours in CUDA_VISIBLE_DEVICES.

Nothing here imports torch or initialises CUDA: what a process may see is fixed once it has.
"""

import ctypes
import errno
import fcntl
import logging
import os
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from workflow_scripts.console.job import agree_here, count_here, number_here
from workflow_scripts.errors import InputError

logger = logging.getLogger(__name__)

VISIBLE = "CUDA_VISIBLE_DEVICES"
NVML = "libnvidia-ml.so.1"
DRIVER_FOLDER = Path("/proc/driver/nvidia/gpus")
SECONDS_BETWEEN_LOOKS = 1.0
SECONDS_BETWEEN_MESSAGES = 600.0
HOURS_OF_PATIENCE = 24.0
NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)
# Locks of this process, by device. They must stay open as long as it runs.
_held: dict[str, int] = {}
# What this process has settled on; CUDA_VISIBLE_DEVICES names nothing else any more.
_taken: list[str] = []


def _load_nvml() -> Any:
    """The driver's library of management, None where there is none."""
    try:
        return ctypes.CDLL(NVML)
    except OSError:
        return None


def _uuid(nvml: Any, device: ctypes.c_void_p) -> str:
    text = ctypes.create_string_buffer(96)
    return text.value.decode() if nvml.nvmlDeviceGetUUID(device, text, len(text)) == 0 else ""


def _slices(nvml: Any, device: ctypes.c_void_p) -> list[str]:
    """UUIDs of the parts (MIG) that a GPU is cut into; none if it is whole."""
    now, pending, most = ctypes.c_uint(0), ctypes.c_uint(0), ctypes.c_uint(0)
    if nvml.nvmlDeviceGetMigMode(device, ctypes.byref(now), ctypes.byref(pending)) or not now.value:
        return []
    nvml.nvmlDeviceGetMaxMigDeviceCount(device, ctypes.byref(most))
    found = []
    for number in range(most.value):
        part = ctypes.c_void_p()
        if nvml.nvmlDeviceGetMigDeviceHandleByIndex(device, number, ctypes.byref(part)) == 0:
            found.append(_uuid(nvml, part))
    return [name for name in found if name]


def _present(nvml: Any) -> list[tuple[str, list[str]]]:
    """(UUID, UUIDs of its slices) of each GPU in the order of the PCI bus, from the driver's library."""
    if nvml is None or nvml.nvmlInit_v2() != 0:
        return []
    try:
        count = ctypes.c_uint(0)
        nvml.nvmlDeviceGetCount_v2(ctypes.byref(count))
        gpus = []
        for number in range(count.value):
            device = ctypes.c_void_p()
            # One that this job may not use, or that is broken, keeps its number.
            usable = nvml.nvmlDeviceGetHandleByIndex_v2(number, ctypes.byref(device)) == 0
            gpus.append((_uuid(nvml, device), _slices(nvml, device)) if usable else ("", []))
        return gpus
    finally:
        nvml.nvmlShutdown()


def _present_by_folder(folder: Path) -> list[tuple[str, list[str]]]:
    """The same from the driver's folder, where a container has no such library; UUIDs are unknown."""
    try:
        return [("?", []) for _ in folder.iterdir()]
    except OSError:
        return []


def visible_gpus(nvml: Any = None, folder: Path = DRIVER_FOLDER) -> list[str]:
    """Devices that a process of this machine may use, as CUDA_VISIBLE_DEVICES calls them.

    What that variable says already (a user, Slurm) is kept to: numbers, UUIDs or their beginnings, MIG
    slices; empty means none. As for CUDA, the first name that means nothing ends the list. Without it, all
    whole GPUs by number, and slices, which have no numbers, by UUID.

    Args:
        nvml: The driver's library of management; loaded if None.
        folder: Where the driver lists its GPUs.
    """
    gpus = _present(nvml or _load_nvml()) or _present_by_folder(folder)
    given = os.environ.get(VISIBLE)
    if given is None:
        every = [slices or [str(number)] for number, (uuid, slices) in enumerate(gpus) if uuid]
        return [name for names in every for name in names]
    unnamed = any(uuid == "?" for uuid, _ in gpus)
    uuids = [name for uuid, slices in gpus for name in (uuid, *slices)]
    found: list[str] = []
    for name in (part.strip() for part in given.split(",")):
        numbered = name.isdecimal() and int(name) < len(gpus)
        named = name.startswith(("GPU-", "MIG-")) and any(uuid.startswith(name) for uuid in uuids)
        if not (numbered or named or (unnamed and name.startswith(("GPU-", "MIG-")))):
            break
        found.append(name)
    return list(dict.fromkeys(found))


def lock_folder() -> Path:
    """Folder of the locks: of this user on this machine, or of this Slurm job, whose devices are its own."""
    job = os.environ.get("SLURM_JOB_ID")
    return Path(tempfile.gettempdir()) / f"wsss-gpus-{os.getuid()}{f'-{job}' if job else ''}"


def _lock(path: Path, wait: bool = False) -> int | None:
    """A locked file; None if another process has it."""
    file = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except OSError as error:
        os.close(file)
        if isinstance(error, BlockingIOError):
            return None
        if error.errno in NO_LOCKS:
            raise InputError(
                f"{path.parent}: this file system keeps no locks, by which jobs share the GPUs; set TMPDIR "
                "to a folder on a local disk"
            ) from None
        raise
    return file


@contextmanager
def _choosing(folder: Path) -> Iterator[None]:
    """One job chooses at a time, so that no two have a part each of what both need."""
    file = _lock(folder / "choosing.lock", wait=True)
    try:
        yield
    finally:
        if file is not None:
            os.close(file)


def _try(devices: Sequence[str], needed: int, folder: Path) -> list[str]:
    """Lock so many of the devices, or none."""
    files: dict[str, int] = {}
    with _choosing(folder):
        for device in devices:
            file = _lock(folder / f"{device.replace('/', '-')}.lock")
            if file is not None:
                files[device] = file
            if len(files) == needed:
                break
        if len(files) < needed:
            for file in files.values():
                os.close(file)
            return []
    for file in files.values():
        os.ftruncate(file, 0)
        os.write(file, str(os.getpid()).encode())
    _held.update(files)
    return list(files)


def _holders(devices: Sequence[str], folder: Path) -> str:
    """The processes that have devices, for a message."""
    found = {}
    for device in devices:
        with suppress(OSError):
            process = (folder / f"{device.replace('/', '-')}.lock").read_text(encoding="ascii")
            if Path(f"/proc/{process}").exists():
                found[device] = f"{device} by process {process}"
    return ", ".join(found.values()) or "unknown"


def lock_devices(
    devices: Sequence[str], needed: int, folder: Path, patience_hours: float = HOURS_OF_PATIENCE
) -> list[str]:
    """Lock as many devices as a job needs for as long as this process runs; wait until they are free.

    While it waits, the job holds none.

    Args:
        devices: What CUDA_VISIBLE_DEVICES calls them: numbers or UUIDs.
        needed: How many.
        folder: Where the locks lie; the same for all processes of the machine.
        patience_hours: How long to wait.

    Raises:
        InputError: They did not become free in time, or no locks can be kept here.
    """
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    started, said = time.monotonic(), -SECONDS_BETWEEN_MESSAGES
    while not (taken := _try(devices, needed, folder)):
        now = time.monotonic()
        holders = _holders(devices, folder)
        if now - started > 3600 * patience_hours:
            raise InputError(
                f"{needed} of the GPUs {', '.join(devices)} did not become free within {patience_hours:g} "
                f"hours (taken: {holders}); end what holds them, or use `device: cpu`"
            )
        if now - said >= SECONDS_BETWEEN_MESSAGES:
            said = now
            logger.info(
                "waiting until %d of the GPUs %s are free (taken: %s)",
                needed, ", ".join(devices), holders,
            )  # fmt: skip
        time.sleep(SECONDS_BETWEEN_LOOKS)
    return taken


def take_gpu(devices: Sequence[str], folder: Path | None = None) -> str | None:
    """Make this process see one GPU that no other process of this workflow and user has taken.

    To be called before it first speaks to the GPU, by all processes of a job: the first one on each
    machine takes the devices of all, and tells the others.

    Args:
        devices: What this process may use: `visible_gpus()`.
        folder: Where the locks lie; `lock_folder()` if None.

    Returns:
        The device, None where there is none.

    Raises:
        InputError: The job has more processes on this machine than there are devices, or they did not
            become free in time.
    """
    if _taken:
        return _taken[0]
    if not devices:
        return None
    needed = count_here()
    if needed > len(devices):
        raise InputError(
            f"the job was given {needed} GPUs, but this machine lets it see {len(devices)}; lower "
            f"`gpu` of this rule (`set-resources`), or look at {VISIBLE}"
        )

    def take() -> str:
        return ",".join(lock_devices(devices, needed, folder or lock_folder()))

    device = agree_here("gpus", take).split(",")[number_here()]
    _taken.append(device)
    os.environ[VISIBLE] = device
    # Numbers name the same device in every process only where the order is fixed.
    os.environ.setdefault("CUDA_DEVICE_ORDER", "PCI_BUS_ID")
    logger.info("this process uses GPU %s", device)
    return device
