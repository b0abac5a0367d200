"""One run of a whole workflow in a fresh folder, as it is or with the usual kernels, and what it took."""

import json
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tools.benchmarks.comparison import timed
from tools.benchmarks.reference_kernels.hook import REPLACED, START, message
from tools.benchmarks.surroundings import ROOT
from workflow_scripts.errors import InputError
from workflow_scripts.evaluation.run_results import Benchmarks
from workflow_scripts.fingerprint import PACKAGE

RUN = "demo"
OUTPUT = "snakemake.log"
_SHOWN = 3000


@dataclass(frozen=True)
class DemoRun:
    """What a run took, and its figures."""

    seconds: float
    """Wall time from the start of Snakemake to its end."""
    cpu_seconds: float
    """Time of all cores in all its processes."""
    stages: dict[str, float]
    """Wall time of each stage by Snakemake's benchmarks, added over jobs, of which several run at once."""
    jobs: int
    """Number of jobs that have a benchmark."""
    compilations: int
    """Kernels that numba had to compile, which makes a run slower than those that follow it."""
    summary: dict[str, Any]
    """Content of summary.json."""


def run_demo(folder: Path, configfiles: Sequence[Path], cores: int, reference: bool) -> DemoRun:
    """Run the workflow.

    Args:
        folder: Empty; Snakemake's working directory. What it says lies there in `snakemake.log`.
        configfiles: As for `snakemake --configfile`.
        cores: Cores of all jobs together.
        reference: Whether the usual kernels take the place of ours.

    Raises:
        InputError: Snakemake fails, or one of the kernels was not replaced.
    """
    folder.mkdir(parents=True)
    command = [
        sys.executable, "-m", "snakemake", "all", "--snakefile", str(ROOT / "Snakefile"),
        "--directory", str(folder), "--cores", str(cores),
        "--configfile", *(str(path.resolve()) for path in configfiles),
        "--config", f"run={RUN}", "results=results",
    ]  # fmt: skip
    before, started = _children_seconds(), time.time()
    seconds, code = timed(lambda: _run(command, folder / OUTPUT, _environment(reference)))
    cpu_seconds = _children_seconds() - before
    said = (folder / OUTPUT).read_text("utf-8", errors="replace")
    if code:
        raise InputError(f"{' '.join(command)} failed ({code}):\n{said[-_SHOWN:]}")
    for module in REPLACED:
        if (message(module) in said) != reference:
            how = "was not" if reference else "was also"
            raise InputError(f"{folder / OUTPUT}: the kernel of {module} {how} replaced")
    run = folder / "results" / RUN
    benchmarks = Benchmarks(run / "benchmarks")
    return DemoRun(
        seconds,
        cpu_seconds,
        {stage: cost.seconds for stage, cost in benchmarks.costs().items()},
        sum(1 for _ in benchmarks.folder.rglob("*.tsv")),
        _compiled_since(started),
        json.loads((run / "summary.json").read_text("utf-8")),
    )


def _environment(reference: bool) -> dict[str, str]:
    """This process's, with its Python first, and the reference's start on Python's path."""
    path = [str(ROOT), *([str(START)] if reference else []), os.environ.get("PYTHONPATH", "")]
    programs = [str(Path(sys.executable).parent), os.environ.get("PATH", "")]
    return {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(filter(None, path)),
        "PATH": os.pathsep.join(filter(None, programs)),
    }


def _run(command: Sequence[str], output: Path, environment: dict[str, str]) -> int:
    """Exit code of a command; when this process is told to stop, the command's processes are too."""
    with output.open("w", encoding="utf-8") as stream:
        process = subprocess.Popen(
            command,
            env=environment,
            stdout=stream,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            return process.wait()
        except BaseException:
            os.killpg(process.pid, signal.SIGTERM)
            process.wait()
            raise


def _children_seconds() -> float:
    """Time of all cores in the processes that this one, and they, have started and seen end."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def _compiled_since(moment: float) -> int:
    """Number of kernels whose compiled code, beside the source, is newer than a moment."""
    kept = (ROOT / PACKAGE).rglob("*.nbc")
    return sum(1 for path in kept if path.stat().st_mtime > moment)
