"""Finds and reads what a run left on disk for each trial, method and source of pseudo-masks.

    {run}/{trial}/{method}/sweep/{shard}.safetensors
    {run}/{trial}/{method}/propagated_sweep/{shard}.safetensors        where boundaries are learnt
    {run}/{trial}/{method}/refined_sweep/{refinement}/{shard}.safetensors   where it was asked for
    {run}/{trial}/{method}/seeds/{shard}.json                          composition
    {run}/{trial}/{method}/evaluation/seeds/{shard}.json
    {run}/{trial}/{method}/{source}/evaluation/{pseudo_masks|segmentation}/{shard}.json
    {run}/{trial}/{method}/{auto|validation}/thresholds.json           chosen threshold
    {run}/benchmarks/{stage}/{wildcards}.tsv                           what a job took

A shard is named `{split}-{number}`, a source "t0.50" for a threshold, "auto" or "validation" for a
chosen one and "truth" for true masks; the wildcards of a job are joined by "-" (0-amn-t0.50-val-00). A
section without files was not computed; one with some of its shards is an error. Files that the run's
configuration does not name (boundaries no longer learnt, other splits, stages) are leftovers and not read.
"""

import csv
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from workflow_scripts.errors import InputError
from workflow_scripts.evaluation.confusion import Evaluation, merge_evaluations
from workflow_scripts.evaluation.summary import MethodResults, SourceResults
from workflow_scripts.evaluation.threshold_sweep import Sweeps, merge_shards
from workflow_scripts.settings.refinement import AUTO, VALIDATION
from workflow_scripts.storage.chosen_thresholds import read_thresholds
from workflow_scripts.storage.masks import SeedPixels

TRUTH = "truth"
CHOSEN = (AUTO, VALIDATION)
CHOSEN_NAME = "thresholds.json"
Content = TypeVar("Content")


@dataclass(frozen=True)
class RunFolder:
    """A run's folder and what was computed in it; shards are grouped by split."""

    path: Path
    shards: dict[str, tuple[str, ...]]
    """Those whose activations are evaluated."""
    pseudo_mask_shards: dict[str, tuple[str, ...]]
    segmentation_shards: dict[str, tuple[str, ...]]
    has_masks: bool
    """Whether anything was compared with the truth."""
    propagated: bool
    """Whether activations were propagated over learnt boundaries."""

    @classmethod
    def of(
        cls,
        path: Path,
        shards: Sequence[str],
        pseudo_mask_shards: Sequence[str] | None = None,
        segmentation_shards: Sequence[str] | None = None,
        *,
        masks: bool = True,
        propagated: bool = False,
    ) -> "RunFolder":
        """Group shards "train-00", "train-01", "val-00" by split.

        Shards of pseudo-masks and segmentation are those of activations if left out. Raises
        InputError for a name without a number.
        """
        return cls(
            path,
            _by_split(shards),
            _by_split(shards if pseudo_mask_shards is None else pseudo_mask_shards),
            _by_split(shards if segmentation_shards is None else segmentation_shards),
            masks,
            propagated,
        )

    @property
    def splits(self) -> list[str]:
        """Splits of which the run has anything."""
        return list(dict.fromkeys([*self.shards, *self.segmentation_shards]))

    def sweeps(self, trial: int, method: str) -> dict[str, Sweeps]:
        """Return the threshold sweeps of a method's activations, by split."""
        if not self.has_masks:
            return {}
        folder = self.path / str(trial) / method / "sweep"
        return _merged(folder, ".safetensors", self.shards, merge_shards)

    def propagated_sweeps(self, trial: int, method: str) -> dict[str, Sweeps]:
        """Return the threshold sweeps of a method's propagated activations, by split."""
        if not (self.has_masks and self.propagated):
            return {}
        folder = self.path / str(trial) / method / "propagated_sweep"
        return _merged(folder, ".safetensors", self.shards, merge_shards)

    def refined_sweeps(self, trial: int, method: str, refinement: str) -> dict[str, Sweeps]:
        """Return the sweeps of what pseudo-masks are made of, refined by "crf" or "par", by split."""
        folder = self.path / str(trial) / method / "refined_sweep" / refinement
        return _merged(folder, ".safetensors", self.shards, merge_shards)

    def seeds(self, trial: int, method: str) -> dict[str, Evaluation]:
        """Return the evaluations of a method's seeds, by split."""
        if not self.has_masks:
            return {}
        folder = self.path / str(trial) / method / "evaluation" / "seeds"
        return _merged(folder, ".json", self.shards, merge_evaluations)

    def seed_pixels(self, trial: int, method: str) -> dict[str, SeedPixels]:
        """Return what a method's seeds consist of, by split."""
        folder = self.path / str(trial) / method / "seeds"
        return _merged(folder, ".json", self.shards, SeedPixels.read)

    def masks(self, trial: int, method: str, source: str, kind: str) -> dict[str, Evaluation]:
        """Return the evaluations of "pseudo_masks" or "segmentation", by split."""
        if not self.has_masks:
            return {}
        shards = {"pseudo_masks": self.shards, "segmentation": self.segmentation_shards}
        folder = self.path / str(trial) / method / source / "evaluation" / kind
        return _merged(folder, ".json", shards[kind], merge_evaluations)

    def method_results(self, trial: int, method: str, sources: Sequence[str]) -> MethodResults:
        """Return all that a trial has of a method; sources without results are left out."""
        by_key = {}
        for source in sources:
            results = SourceResults(
                threshold=self.threshold(trial, method, source),
                pseudo_masks=_totals(self.masks(trial, method, source, "pseudo_masks")),
                segmentation=_totals(self.masks(trial, method, source, "segmentation")),
            )
            if results.pseudo_masks or results.segmentation:
                by_key[source_key(source)] = results
        return MethodResults(
            sweeps=self.sweeps(trial, method),
            propagated_sweeps=self.propagated_sweeps(trial, method),
            seed_pixels=self.seed_pixels(trial, method),
            seeds=_totals(self.seeds(trial, method)),
            sources=by_key,
        )

    def threshold(self, trial: int, method: str, source: str) -> float | None:
        """Return the pseudo-masks' threshold, given in the source's name or chosen in this trial.

        None where it was not chosen (yet), and for true masks.
        """
        chosen = self.path / str(trial) / method / source / CHOSEN_NAME
        if source in CHOSEN and chosen.exists():
            return read_thresholds(chosen).pseudo_mask
        return threshold_of(source)


def _by_split(shards: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """Group names of shards by split; raises InputError for a name without a number."""
    by_split: dict[str, tuple[str, ...]] = {}
    for shard in shards:
        split, dash, number = shard.rpartition("-")
        if not dash or not number.isdigit():
            raise InputError(f"shard {shard!r}: expected a split and a number, as in train-00")
        by_split[split] = (*by_split.get(split, ()), shard)
    return by_split


def _merged(
    folder: Path,
    suffix: str,
    by_split: Mapping[str, Sequence[str]],
    merge: Callable[[Sequence[Path]], Content],
) -> dict[str, Content]:
    """Merge the shards of each split that has any file; raises InputError where some are missing."""
    found = {}
    for split, shards in by_split.items():
        paths = [folder / (shard + suffix) for shard in shards]
        missing = [path for path in paths if not path.exists()]
        if not missing:
            found[split] = merge(paths)
        elif len(missing) < len(paths):
            raise InputError(
                f"{missing[0]}: no such file, though other shards of {split!r} are there. Run"
                " the workflow again, so that it is made."
            )
    return found


def _totals(evaluations: dict[str, Evaluation]) -> dict:
    return {split: evaluation.total for split, evaluation in evaluations.items()}


def threshold_of(source: str) -> float | None:
    """Return the threshold in "t0.50"; None for "truth", "auto" and "validation", which name none.

    Raises InputError for any other name.
    """
    if source == TRUTH or source in CHOSEN:
        return None
    try:
        if not source.startswith("t"):
            raise ValueError
        return float(source[1:])
    except ValueError:
        raise InputError(
            f"source {source!r}: expected `auto`, `validation`, `truth`, or t and a threshold,"
            " as in t0.50"
        ) from None


def source_key(source: str) -> str:
    """Return the key of a source in the summary: "0.50" of "t0.50", else its name."""
    return source if source == TRUTH or source in CHOSEN else source[1:]


@dataclass(frozen=True, slots=True)
class StageCost:
    """What a stage took, over all its jobs."""

    seconds: float
    """Wall time, added."""
    megabytes: float | None
    """Largest peak of resident memory of any job; None where it was not measured."""


# Stages that do other work for each method.
_OF_A_METHOD = ("train", "infer")


@dataclass(frozen=True)
class Benchmarks:
    """A folder of benchmarks, and which of them belong to the run."""

    folder: Path
    jobs: tuple[str, ...] = ()
    """Regular expressions of their names, `{stage}/{wildcards}`; all belong to it if empty."""

    def costs(self) -> dict[str, StageCost]:
        """Return what each stage took; `train` and `infer` of each method count apart: "train amn".

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
                stage, *wildcards = name.parts
                if stage in _OF_A_METHOD and len(wildcards) == 1:
                    # {trial}-{method}, and perhaps a shard: which method it is makes the difference.
                    stage = " ".join((stage, *wildcards[0].split("-")[1:2]))
                yield stage, path


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
