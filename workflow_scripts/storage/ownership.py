"""A lock beside an output, so that no two jobs ever write it.

A cluster can leave two jobs at work on one output: a second submission, a retry or a requeue while the
first still runs. The lock names its owner; the owner's heartbeat (the file's time of change, renewed
every few seconds) shows that it lives. A lock without heartbeat is stale and is taken over. Only whether
the heartbeat moves counts, watched on the waiting process's own clock: clocks of nodes may differ.

The kernel's locks would be less to read, but do not serve: by default BeeGFS, and Lustre mounted with
`localflock`, keep them to one node and do not say so.
"""

import glob
import json
import logging
import os
import secrets
import shutil
import socket
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

from workflow_scripts.storage.atomic import hidden_beside

logger = logging.getLogger(__name__)

BEAT_SECONDS = 10.0
# Network file systems show another node's changes up to a minute late.
STALE_SECONDS = 120.0
SECONDS_BETWEEN_LOOKS = 1.0
SECONDS_BETWEEN_MESSAGES = 60.0
LOST = 75


def machine() -> str:
    """Names the space in which a process number means something; empty where that is unknown."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        return f"{boot} {Path('/proc/self/ns/pid').readlink()}"
    except OSError:
        return ""


def process_start(process: int) -> str | None:
    """When a process of this machine started, in kernel ticks; None if it has ended."""
    try:
        status = Path(f"/proc/{process}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    fields = status.rpartition(")")[2].split()
    return None if fields[0] == "Z" else fields[19]


class Ownership:
    """The lock of one output, as a context manager. Waits while another owner lives.

    Args:
        output: File or folder that is written; the lock is a hidden file beside it.
        task: What is done, exactly: command and code. Where a waiting job finds that the other one did
            the same and has written the output, `done` is true and nothing is left to do.
        beside: Other files that the owner writes, and no one else.
        beat_seconds: Time between heartbeats.
        stale_seconds: A lock whose heartbeat does not move for so long is taken over.

    A process that finds its lock in other hands (it was held up for longer than `stale_seconds`) ends
    itself at once, with exit code 75.
    """

    def __init__(
        self,
        output: Path,
        task: str,
        beside: Sequence[Path] = (),
        beat_seconds: float = BEAT_SECONDS,
        stale_seconds: float = STALE_SECONDS,
    ) -> None:
        self.output = output
        self.path = hidden_beside(output, ".owner")
        self.beat_seconds, self.stale_seconds = beat_seconds, stale_seconds
        self.pause = min(SECONDS_BETWEEN_LOOKS, beat_seconds)
        self.done = False
        self._task = task
        self._beside = tuple(beside)
        self._ended = threading.Event()
        self._file: int | None = None
        # The heartbeat and the end of the work both use the file.
        self._file_in_use = threading.Lock()

    def __enter__(self) -> Self:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        waited_from = time.time_ns()
        last_seen: dict[str, str] = {}
        while not self._create(replace=False):
            owner, stale = self._watch()
            last_seen = {} if stale else owner or last_seen
            if stale and self._create(replace=True):
                break
        if last_seen.get("task") == self._task and self.output.exists():
            self.done = self.output.stat().st_mtime_ns > waited_from
        self._clear()
        threading.Thread(target=self._beat, daemon=True, name="heartbeat").start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._ended.set()
        with self._file_in_use:
            # Where the file system fails the lock stays; without heartbeat it is stale soon.
            with suppress(OSError):
                if self._ours():
                    self.path.unlink(missing_ok=True)
            self._close()

    def _clear(self) -> None:
        """Remove what a killed owner had half written: its outputs, and hidden files beside them."""
        for path in (self.output, *self._beside):
            hidden = glob.escape(hidden_beside(path, "").name)
            for pattern in (f"{hidden}.*partial*", f".{hidden}.*partial*", f"{hidden}.owner.*"):
                for leftover in path.parent.glob(pattern):
                    if leftover.is_dir():
                        shutil.rmtree(leftover, ignore_errors=True)
                    else:
                        leftover.unlink(missing_ok=True)

    def _create(self, replace: bool) -> bool:
        """Write our lock, in place of a stale one if `replace`; whether it is ours then."""
        path = (
            hidden_beside(self.output, f".owner.{secrets.token_hex(4)}") if replace else self.path
        )
        try:
            # Of all that try, only one process makes a file of that name.
            self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o644)
        except FileExistsError:
            return False
        try:
            os.write(self._file, self._description())
            if replace:
                path.replace(self.path)
        except BaseException as error:
            self._close()
            path.unlink(missing_ok=True)
            if isinstance(error, FileNotFoundError):
                return False  # another process has taken over already, and cleared our file away
            raise
        if replace:
            # Another process may have found the lock stale at the same moment: the last one wins.
            time.sleep(self.pause)
        if self._ours():
            return True
        self._close()
        return False

    def _description(self) -> bytes:
        """What the lock says of this process."""
        owner = {
            "host": socket.gethostname(),
            "machine": machine(),
            "process": str(os.getpid()),
            "started": process_start(os.getpid()) or "",
            "job": os.environ.get("SLURM_JOB_ID", ""),
            "task": self._task,
        }
        return json.dumps(owner).encode()

    def _close(self) -> None:
        if self._file is not None:
            os.close(self._file)
            self._file = None

    def _ours(self) -> bool:
        """Whether the lock's file is still the one that we wrote.

        Raises OSError where the file system cannot tell.
        """
        if self._file is None:
            return False
        try:
            found, written = self.path.stat(), os.fstat(self._file)
        except FileNotFoundError:
            return False
        return (found.st_dev, found.st_ino) == (written.st_dev, written.st_ino)

    def _beat(self) -> None:
        beaten = time.monotonic()
        while not self._ended.wait(self.beat_seconds):
            with self._file_in_use:
                if self._file is None:
                    return
                try:
                    lost = not self._ours()
                    if not lost:
                        os.utime(self._file)
                        beaten = time.monotonic()
                except OSError as error:
                    # A network file system may fail for a moment; for others we are dead after a while.
                    logger.warning("%s: cannot be kept (%s)", self.path, error)
                    lost = time.monotonic() - beaten > self.stale_seconds
                if lost:
                    logger.error("%s: another job has taken this output over; ending", self.output)
                    os._exit(LOST)

    def _watch(self) -> tuple[dict[str, str] | None, bool]:
        """Wait until the lock is gone or stale: (its last owner, whether it is stale)."""
        owner: dict[str, str] | None = None
        moved = time.monotonic()
        beat, said = -1, -SECONDS_BETWEEN_MESSAGES
        while True:
            try:
                found = self.path.stat().st_mtime_ns
                owner = _owner(self.path) or owner
            except FileNotFoundError:
                return owner, False
            if found != beat:
                beat, moved = found, time.monotonic()
            if _has_ended(owner) or time.monotonic() - moved > self.stale_seconds:
                logger.warning(
                    "%s: taking over from %s, which has ended", self.output, _name(owner)
                )
                return owner, True
            if time.monotonic() - said >= SECONDS_BETWEEN_MESSAGES:
                said = time.monotonic()
                logger.warning(
                    "%s is being written by %s: waiting for its end%s",
                    self.output, _name(owner), _advice(owner),
                )  # fmt: skip
            time.sleep(self.pause)


def _owner(lock: Path) -> dict[str, str] | None:
    """What a lock says of its owner; None while it is being written."""
    try:
        owner: dict[str, str] = json.loads(lock.read_text(encoding="utf-8"))
    except ValueError:
        return None
    return owner


def _has_ended(owner: dict[str, str] | None) -> bool:
    """Whether the owner was a process of this machine that runs no more."""
    if owner is None or not owner["machine"] or owner["machine"] != machine():
        return False
    return process_start(int(owner["process"])) != owner["started"]


def _name(owner: dict[str, str] | None) -> str:
    if owner is None:
        return "another job"
    job = f" of Slurm job {owner['job']}" if owner["job"] else ""
    return f"process {owner['process']}{job} on {owner['host']}"


def _advice(owner: dict[str, str] | None) -> str:
    if owner is None:
        return ""
    return (
        f" (`scancel {owner['job']}` ends it)"
        if owner["job"]
        else f" (`kill {owner['process']}` ends it)"
    )
