"""A stage as a job of a scheduler: its processes, the signals that end it, the sockets between them.

torchrun starts several processes of one job, a GPU each. The first alone holds the output's lock, and may
wait long for it. The others wait for its word outside of NCCL, whose patience ends after ten minutes.
"""

import multiprocessing.queues
import multiprocessing.util
import os
import signal
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from types import FrameType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch.distributed import TCPStore

PATIENCE = timedelta(days=30)
DONE, TO_DO = "done", "to do"
EXIT_CODE_BASE = 128
# The path of a socket has at most 107 bytes; Python and torch add up to 40 to the folder's.
LONGEST_SOCKET_FOLDER = 60
SHORT_FOLDERS = ("/tmp", "/var/tmp", "/dev/shm")


def count() -> int:
    """Number of processes of the job."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def count_here() -> int:
    """Number of processes of the job on this machine."""
    return int(os.environ.get("LOCAL_WORLD_SIZE", "1"))


def number_here() -> int:
    """Number of this process among those of the job on this machine."""
    return int(os.environ.get("LOCAL_RANK", "0"))


def leads() -> bool:
    """Whether this is the process of a job that writes files: the only one, or torchrun's first."""
    return os.environ.get("RANK", "0") == "0"


def _store() -> "TCPStore":
    """The store of torchrun, which all its processes reach."""
    from torch.distributed import TCPStore

    address, port = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
    return TCPStore(address, port, is_master=False, wait_for_workers=False, timeout=PATIENCE)


def announce(done: bool) -> None:
    """Tell the other processes that the output is ours, and whether it is already there."""
    if count() > 1:
        _store().set("workflow_scripts/owner", DONE if done else TO_DO)


def announced() -> bool:
    """What the first process announces; waits for it."""
    return bool(_store().get("workflow_scripts/owner") == DONE.encode())


def agree_here(subject: str, decide: Callable[[], str]) -> str:
    """What the first of the job's processes on this machine decides; the others wait for its word.

    Args:
        subject: What is decided, once in a job.
        decide: Called in that one process.
    """
    if count_here() == 1:
        return decide()
    key = f"workflow_scripts/{subject}/{os.environ.get('GROUP_RANK', '0')}"
    if number_here() == 0:
        decision = decide()
        _store().set(key, decision)
        return decision
    answer: bytes = _store().get(key)
    return answer.decode()


def use_short_socket_paths() -> None:
    """Let worker processes meet in a folder of a short path, where that of TMPDIR is too long for sockets."""
    if len(os.fsencode(tempfile.gettempdir())) <= LONGEST_SOCKET_FOLDER:
        return
    kept = tempfile.tempdir
    for folder in SHORT_FOLDERS:
        if os.access(folder, os.W_OK | os.X_OK):
            tempfile.tempdir = folder
            # Makes the folder, which this process and its children then use, and removes it at the end.
            multiprocessing.util.get_temp_dir()
            break
    tempfile.tempdir = kept


def _leave(number: int, frame: FrameType | None) -> None:
    raise SystemExit(EXIT_CODE_BASE + number)


@contextmanager
def ending_cleanly() -> Iterator[None]:
    """SIGTERM unwinds the stage, so that locks and half-written files go; SIGUSR1 does nothing.

    SIGUSR1 is Slurm's warning before the time limit: a stage that has nothing to save had better go on,
    it may be done in time. Training puts its own answers in place of both.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    kept = {
        signal.SIGTERM: signal.signal(signal.SIGTERM, _leave),
        signal.SIGUSR1: signal.signal(signal.SIGUSR1, signal.SIG_IGN),
    }
    try:
        yield
    finally:
        for number, handler in kept.items():
            signal.signal(number, handler)


class WarningSignals:
    """Remembers SIGTERM and SIGUSR1 (Slurm's warning before the time limit) until the step is done."""

    def __init__(self) -> None:
        self.number = 0
        for number in (signal.SIGTERM, signal.SIGUSR1):
            signal.signal(number, self._remember)

    def _remember(self, number: int, frame: FrameType | None) -> None:
        self.number = number

    @property
    def received(self) -> bool:
        """Whether the process was asked to stop."""
        return self.number != 0

    @property
    def exit_code(self) -> int:
        """Exit code by which shells report an end by that signal."""
        return EXIT_CODE_BASE + self.number


def start_worker(worker: int) -> None:
    """Start of a loader process: its parent alone may end it, and it ends when it cannot deliver.

    Schedulers send their signals to all processes of a job. A loader that ended at once would take the
    training down with it, before the step is done and the state saved. One that lives on but loses what
    it should deliver would have the training wait for ever.
    """
    multiprocessing.queues.Queue._on_queue_feeder_error = staticmethod(_end_undelivered)  # type: ignore[attr-defined]
    signal.signal(signal.SIGUSR1, signal.SIG_IGN)
    if not hasattr(signal, "sigwaitinfo"):
        return
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})

    def wait_for_parent() -> None:
        while signal.sigwaitinfo({signal.SIGTERM}).si_pid != os.getppid():
            continue
        os._exit(0)

    threading.Thread(target=wait_for_parent, daemon=True, name="end").start()


def _end_undelivered(error: BaseException, item: object) -> None:
    print(f"loader process {os.getpid()} cannot deliver an image: {error}", file=sys.stderr)
    os._exit(1)
