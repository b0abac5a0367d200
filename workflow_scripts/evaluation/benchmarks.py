"""What the jobs of a run took: Snakemake's benchmarks, tables at `{stage}/{wildcards}.tsv`.

The wildcards of a job are joined by "-": 0-amn-t0.50-val-00. What earlier configurations left in the
folder (other shards, thresholds, methods, stages) was not part of the run and does not count.
"""

import csv
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from workflow_scripts.errors import InputError


@dataclass(frozen=True, slots=True)
class StageCost:
    """What a stage took, over all its jobs."""

    seconds: float
    """Wall time, added."""
    megabytes: float | None
    """Largest peak of resident memory of any job; None where it was not measured."""


@dataclass(frozen=True)
class Benchmarks:
    """A folder of benchmarks, and which of them belong to the run."""

    folder: Path
    jobs: tuple[str, ...] = ()
    """Regular expressions of their names, `{stage}/{wildcards}`; all belong to it if empty."""

    def costs(self) -> dict[str, StageCost]:
        """Return what each stage took.

        Raises InputError when a file is no benchmark.
        """
        costs: dict[str, StageCost] = {}
        for stage, path in self._files():
            seconds, peak = _read(path)
            known = costs.get(stage, StageCost(0.0, None))
            measured = [value for value in (known.megabytes, peak) if value is not None]
            costs[stage] = StageCost(known.seconds + seconds, max(measured, default=None))
        return costs

    def _files(self) -> Iterator[tuple[str, Path]]:
        for path in sorted(self.folder.rglob("*.tsv")):
            name = path.relative_to(self.folder).with_suffix("")
            if not self.jobs or any(re.fullmatch(job, name.as_posix()) for job in self.jobs):
                yield name.parts[0], path


def _read(path: Path) -> tuple[float, float | None]:
    """Seconds (mean over repeats) and largest peak of memory of one job."""
    try:
        with path.open(newline="", encoding="utf-8") as stream:
            repeats = list(csv.DictReader(stream, delimiter="\t"))
        seconds = sum(float(row["s"]) for row in repeats) / len(repeats)
    except (KeyError, ValueError, ZeroDivisionError) as error:
        raise InputError(
            f"{path}: not a benchmark of Snakemake ({error!r}); delete the file"
        ) from error
    peaks = [_number(row.get("max_rss", "")) for row in repeats]
    return seconds, max((peak for peak in peaks if peak is not None), default=None)


def _number(text: str) -> float | None:
    """A job shorter than a measurement has "-" or "NA" for its memory."""
    try:
        return float(text)
    except ValueError:
        return None
