"""How a stage starts and ends: flags, log file, one-screen errors, exit code."""

import errno
import io
import logging
import os
import shlex
import socket
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from pydantic import Field

from workflow_scripts.console.arguments import load_given_plugins, parse
from workflow_scripts.console.job import (
    announce,
    announced,
    count_here,
    ending_cleanly,
    leads,
    use_short_socket_paths,
)
from workflow_scripts.doors.door import Door
from workflow_scripts.errors import InputError
from workflow_scripts.fingerprint import code_digests
from workflow_scripts.settings.base import Settings
from workflow_scripts.storage.ownership import Ownership

logger = logging.getLogger("workflow_scripts")

USER_ERROR = 2
INTERRUPTED = 130
# A path that the user gave cannot be read or written as what it is.
NOT_ALLOWED = (
    errno.EACCES, errno.EPERM, errno.EROFS, errno.EEXIST, errno.EISDIR, errno.ENOTDIR, errno.ENAMETOOLONG,
)  # fmt: skip
NO_SPACE = {
    errno.ENOSPC: "the disk is full",
    errno.EDQUOT: "your quota of disk space is used up",
    errno.EFBIG: "the limit of a file's size is reached",
}
# What the scheduler said about a job; torchrun's variables tell the processes of one job apart.
JOB_VARIABLES = (
    "SLURM_JOB_ID", "SLURM_RESTART_COUNT", "SLURMD_NODENAME", "CUDA_VISIBLE_DEVICES", "RANK", "WORLD_SIZE",
)  # fmt: skip


class StageFiles(Settings):
    """What every stage takes beside its own inputs and outputs; none of it changes a result."""

    log: Path | None = Field(None, description="file that receives a copy of the messages")
    threads: int = Field(1, ge=1, description="processor cores to use")

    @property
    def owned(self) -> Path | None:
        """The output that only one job may write at a time."""
        output: Path | None = getattr(self, "output", None)
        return output

    @property
    def beside(self) -> tuple[Path, ...]:
        """What else the stage writes, which belongs to the owner of the output."""
        return ()


class PluggedFiles(StageFiles):
    """What a stage takes that looks up entries by name."""

    plugins: tuple[Path, ...] = Field(
        (),
        description="Python files with entries of one's own (methods, backbones …) that the stage uses",
    )


class NoSettings(Settings):
    """Settings of a stage that has none."""


Files = TypeVar("Files", bound=StageFiles)
StageSettings = TypeVar("StageSettings", bound=Settings)
Entry = TypeVar("Entry")


def _log_to(path: Path | None) -> None:
    handlers: list[logging.Handler] = [logging.StreamHandler(sys.stderr)]
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        # A new file, not the old one emptied: an orphan may still be writing to that.
        path.unlink(missing_ok=True)
        handlers.append(
            logging.FileHandler(path, mode="w", encoding="utf-8", errors="backslashreplace")
        )
    logging.basicConfig(
        level=logging.INFO,
        format="%(asctime)s %(message)s",
        datefmt="%H:%M:%S",
        handlers=handlers,
        force=True,
    )


def print_in_any_encoding() -> None:
    """Have what a terminal's encoding lacks printed as an escape sequence, not end the program."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def limit_threads(threads: int) -> None:
    """Hold the numerical libraries to the cores that the scheduler gave; before they are imported."""
    for variable in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        os.environ[variable] = str(threads)
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(threads)


def _place() -> str:
    """Where the stage runs: host, and what the scheduler gave it."""
    given = [f"{name}={os.environ[name]}" for name in JOB_VARIABLES if name in os.environ]
    return ", ".join([socket.gethostname(), *given])


@contextmanager
def _owning(files: StageFiles, name: str, task: Callable[[], str]) -> Iterator[bool]:
    """Hold the output's lock; yields whether another job has just done the very same work."""
    if files.owned is None:
        yield False
        return
    if not leads():
        yield announced()
        return
    with Ownership(files.owned, task(), files.beside) as lock:
        announce(lock.done)
        if lock.done:
            logger.info(
                "%s: another job has just written %s, nothing is left to do", name, files.owned
            )
        yield lock.done


def _is_out_of_gpu_memory(error: RuntimeError) -> bool:
    """Whether torch says so; stages without torch need not import it for that."""
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(error, torch.OutOfMemoryError)


def run_entry_stage(
    name: str,
    description: str | None,
    door: Door[Entry],
    run: Callable[[type[Entry], Sequence[str]], int],
    argv: Sequence[str] | None = None,
) -> int:
    """Run a stage whose first argument names an entry of a door, which says what its flags are.

    Args:
        name: The stage's name, for instance "train".
        description: The stage's docstring.
        door: Where the entry is looked up.
        run: Runs the stage with an entry and the other arguments; returns the exit code.
        argv: Arguments; those of the process if None.

    Returns:
        Exit code; 2 where there is no such entry.
    """
    entry, *rest = [*(sys.argv[1:] if argv is None else argv)] or ["--help"]
    try:
        load_given_plugins(rest)
        if entry in ("-h", "--help"):
            print(f"usage: python -m workflow_scripts.{name} {{{','.join(door.names())}}} …\n")
            print(description)
            return 0
        return run(door.get(entry), rest)
    except InputError as error:
        print(f"{name}: {error}", file=sys.stderr)
        return USER_ERROR


def run_stage(
    name: str,
    description: str | None,
    files: type[Files],
    settings: type[StageSettings],
    work: Callable[[Files, StageSettings], None],
    argv: Sequence[str] | None = None,
    code: Callable[[StageSettings], Mapping[str, str]] | None = None,
) -> int:
    """Run a stage from its command line.

    A user's mistake (`InputError`, a path that cannot be written) and a full disk end in one screen of
    text without a traceback; anything else is a defect of ours and keeps its traceback, in the log file
    too. While another job writes the same output, the stage waits.

    Args:
        name: The stage's name, for instance "refine_seeds".
        description: The stage's docstring.
        files: Model of inputs and outputs.
        settings: Model of what changes the result.
        work: Does the work.
        argv: Arguments; those of the process if None.
        code: Digests of the code that the stage runs, given its settings, where its entries count too; the
            stage module's if None.

    Returns:
        Exit code: 0, 2 for a user's mistake, 1 for any other failure, 130 when interrupted.

    Raises:
        SystemExit: The scheduler ended the stage by a signal.
    """
    print_in_any_encoding()
    use_short_socket_paths()
    program = f"python -m workflow_scripts.{name}"
    try:
        given, chosen = parse(description, files, settings, argv, program)
    except InputError as error:
        print(error, file=sys.stderr)
        return USER_ERROR
    command = shlex.join(sys.argv[1:] if argv is None else argv)
    _log_to(given.log if leads() else None)
    logger.info("$ %s %s", program, command)
    logger.info("on %s", _place())
    given = given.model_copy(update={"threads": max(1, given.threads // count_here())})
    limit_threads(given.threads)
    started = time.monotonic()

    def task() -> str:
        return f"{command} {code(chosen) if code else code_digests(name.split()[0])}"

    try:
        with ending_cleanly(), _owning(given, name, task) as done:
            if not done:
                work(given, chosen)
    except InputError as error:
        logger.error("%s: error: %s", name, error)
        return USER_ERROR
    except KeyboardInterrupt:
        logger.error("%s: interrupted", name)
        return INTERRUPTED
    except SystemExit:
        logger.error("%s: ended by a signal", name)
        raise
    except RuntimeError as error:
        if not _is_out_of_gpu_memory(error):
            logger.exception("%s: failed", name)
        else:
            logger.error(
                "%s: error: the GPU's memory does not suffice (%s); use a GPU with more, smaller images "
                "(`scales`, `crop`), or `--device cpu`", name, str(error).split(". ")[0],
            )  # fmt: skip
        return 1
    except OSError as error:
        if error.errno in NO_SPACE:
            logger.error(
                "%s: error: %s at %s; free some space, run again",
                name, NO_SPACE[error.errno], error.filename or "the output folder",
            )  # fmt: skip
        elif error.errno in NOT_ALLOWED and error.filename:
            reason = error.strerror or type(error).__name__
            logger.error(
                "%s: error: %s: %s; give another path, or change what is there",
                name, error.filename2 or error.filename, reason.lower(),
            )  # fmt: skip
            return USER_ERROR
        else:
            logger.exception("%s: failed", name)
        return 1
    except Exception:
        logger.exception("%s: failed", name)
        return 1
    logger.info("%s: done in %.1f s", name, time.monotonic() - started)
    return 0
