"""What to print when a run has failed: the rules, the ends of their logs, how to go on.

Snakemake's own log is long, and names the file in which the reason stands; this shows the reason.
"""

import re
import shlex
import signal
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

TAIL_LINES = 15
MOST_FAILURES = 3
RESUME = "--rerun-incomplete"
FAILED = re.compile(r"^Error in (?:group )?(?:rule )?(?P<rule>\w+)")
LOG = re.compile(r"^\s+log: (?P<files>.+?)(?: \(check log file\(s\) for error details\))?$")
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


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def explain_failure(logs: Sequence[str], arguments: Sequence[str]) -> str:
    """A screen of text about a failed run.

    Args:
        logs: Paths of Snakemake's own logs: one as a rule, none where it keeps no log.
        arguments: Snakemake's arguments.
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
    screen += ["What is done is kept. When the cause is mended, go on with:", ""]
    screen += [f"    {resume_command(arguments)}", ""]
    return "\n".join(screen)


def outlive_warnings() -> None:
    """Let Slurm's warning before the time limit reach the stage alone.

    Slurm sends it to every process of a job, to Snakemake and its shell too, which it would end. What is
    ignored is inherited; a stage puts its own answer in place.
    """
    signal.signal(signal.SIGUSR1, signal.SIG_IGN)
