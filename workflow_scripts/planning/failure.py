"""What comes of a run that ended, failed or was killed: what to print of it, and that the next can go on.

Snakemake's own log is long, and names the file in which the reason stands; this shows the reason. A
Snakemake that was killed leaves its folder locked; its lock does not say whose it was, so each run leaves a
note of its process, by which the next one sees that nobody is at work any more.
"""

import atexit
import os
import re
import shlex
import shutil
import signal
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from workflow_scripts.storage.ownership import machine, process_start

TAIL_LINES = 15
MOST_FAILURES = 3
# The Snakefile is read when a run begins.
_STARTED = time.time()
RESUME = "--rerun-incomplete"
FAILED = re.compile(r"^Error in (?:group )?(?:rule )?(?P<rule>\w+)")
LOG = re.compile(r"^\s+log: (?P<files>.+?)(?: \(check log file\(s\) for error details\))?$")
REPORTED = re.compile(r"^Finished jobid: \d+ \(Rule: render_report\)$", re.MULTILINE)
RUN = re.compile(r"SLURM run ID: (?P<run>\S+)")


@dataclass(frozen=True)
class Failure:
    """A job that failed: its rule and its log files."""

    rule: str
    logs: tuple[Path, ...]


def read_failures(text: str) -> list[Failure]:
    """Jobs that failed, from Snakemake's log; each once, in order, with their last attempt."""
    found: dict[Failure, None] = {}
    rule: str | None = None
    for line in text.splitlines():
        if match := FAILED.match(line):
            rule = match["rule"]
            failure = Failure(rule, ())
        elif rule is not None and (match := LOG.match(line)):
            found.pop(failure, None)
            failure = Failure(rule, tuple(Path(name) for name in match["files"].split(", ")))
            rule = None
        else:
            continue
        found.pop(failure, None)
        found[failure] = None
    return list(found)


def tail(path: Path, lines: int = TAIL_LINES) -> list[str]:
    """The last lines of a log; progress bars count as one line each."""
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ["(no log was written: the job ended before it began to work)"]
    return text.splitlines()[-lines:] or ["(the log is empty)"]


def resume_command(arguments: Sequence[str]) -> str:
    """The command that goes on where the run stopped."""
    kept = [argument for argument in arguments if argument != RESUME]
    return shlex.join(["snakemake", *kept, RESUME])


def stale_targets(arguments: Sequence[str], results: Path, since: float = _STARTED) -> list[str]:
    """Results that were asked for by name, and lie there from before this run.

    Args:
        arguments: Snakemake's arguments.
        results: Folder of the run's results.
        since: When this run began, in seconds since 1970.
    """
    named = (Path(argument) for argument in arguments if not argument.startswith("-"))
    made = (path for path in named if results in path.parents and path.is_file())
    return [str(path) for path in made if path.stat().st_mtime < since]


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def explain_failure(logs: Sequence[str], arguments: Sequence[str], results: Path) -> str:
    """A screen of text about a failed run.

    Args:
        logs: Paths of Snakemake's own logs: one as a rule, none where it keeps no log.
        arguments: Snakemake's arguments.
        results: Folder of the run's results.
    """
    text = "\n".join(_read(Path(log)) for log in logs)
    log = " ".join(logs) or "the messages above"
    failures = read_failures(text)
    screen = [""]
    for failure in failures[-MOST_FAILURES:]:
        if not failure.logs:
            screen += [f"{failure.rule} failed: see {log}", ""]
        for path in failure.logs:
            screen += [f"{failure.rule} failed. The end of {path}:", ""]
            screen += [f"    {line}" for line in tail(path)] + [""]
    if len(failures) > MOST_FAILURES:
        screen += [f"{len(failures) - MOST_FAILURES} more jobs failed: see {log}", ""]
    if run := RUN.search(text):
        screen.append(
            f"Jobs still at work on the cluster are ended by: scancel --name {run['run']}"
        )
    if stale := stale_targets(arguments, results):
        screen += ["Not made anew, from an earlier run that may not fit today's configuration:", ""]
        screen += [f"    {name}" for name in stale] + [""]
    screen += ["What is done is kept. When the cause is mended, go on with:", ""]
    screen += [f"    {resume_command(arguments)}", ""]
    return "\n".join(screen)


def tell_report(logs: Sequence[str], report: Path) -> str:
    """Where to read on after a run that made its report; empty if it made none.

    Args:
        logs: Paths of Snakemake's own logs.
        report: The report's file.
    """
    if not any(REPORTED.search(_read(Path(log))) for log in logs):
        return ""
    return f"\nThe report, a page for the browser: {report}"


def outlive_warnings() -> None:
    """Let Slurm's warning before the time limit reach the stage alone.

    Slurm sends it to every process of a job, to Snakemake and its shell too, which it would end. What is
    ignored is inherited; a stage puts its own answer in place.
    """
    signal.signal(signal.SIGUSR1, signal.SIG_IGN)


def _note() -> tuple[str, str]:
    """What a note says of this process: the machine, and when it started; and the note's name."""
    started = process_start(os.getpid()) or ""
    return f"{os.getpid()}.run", f"{machine()}\n{started}"


def _all_have_ended(notes: Sequence[Path]) -> bool:
    """Whether all processes that left these notes have ended, as far as this machine can tell."""
    here = machine()
    for note in notes:
        place, _, started = note.read_text(encoding="ascii").partition("\n")
        if not here or place != here or process_start(int(note.stem)) == started:
            return False
    return True


def unlock_after_kill(folder: Path) -> bool:
    """Remove the lock of a Snakemake that was killed on this machine; leaves a note of this one.

    To be called by the Snakemake that a user has started, not by those inside of its jobs. Outputs need no
    lock of Snakemake's: no two jobs write one (see `storage/ownership.py`).

    Args:
        folder: Snakemake's own, `.snakemake` where it was called.

    Returns:
        Whether there was such a lock. One of a Snakemake that may be alive, here or on another machine,
        stays.
    """
    notes, locks = folder / "running", folder / "locks"
    removed = False
    # Where nothing can be written, Snakemake says so itself.
    with suppress(OSError, ValueError):
        notes.mkdir(parents=True, exist_ok=True)
        left = sorted(notes.glob("*.run"))
        if left and _all_have_ended(left):
            removed = any(locks.glob("*.lock"))
            shutil.rmtree(locks, ignore_errors=True)
            for note in left:
                note.unlink(missing_ok=True)
        name, text = _note()
        (notes / name).write_text(text, encoding="ascii")
        atexit.register((notes / name).unlink, missing_ok=True)
    return removed
