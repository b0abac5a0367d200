"""What the report reads of a run: its tables (summary, curves, differences, training), sweeps, benchmarks."""

import csv
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from workflow_scripts.errors import InputError
from workflow_scripts.evaluation.confusion import Confusion
from workflow_scripts.evaluation.run_results import (
    TRUTH,
    Benchmarks,
    RunFolder,
    StageCost,
    threshold_of,
)
from workflow_scripts.evaluation.threshold_sweep import PLATEAU, Sweeps
from workflow_scripts.report.catalogue import REFERENCE


@dataclass(frozen=True, slots=True)
class Curve:
    """A method's curve over thresholds in every trial; percent."""

    thresholds: np.ndarray
    """float64[T]."""
    values: np.ndarray
    """float64[trials, T]."""

    @property
    def mean(self) -> np.ndarray:
        """Mean over trials, float64[T]."""
        return self.values.mean(axis=0)

    @property
    def spread(self) -> np.ndarray:
        """Sample standard deviation over trials, float64[T]; 0 for one trial."""
        if len(self.values) < 2:
            return np.zeros(self.values.shape[1])
        return self.values.std(axis=0, ddof=1)

    @property
    def best(self) -> int:
        """Position of the threshold with the highest mean."""
        return int(self.mean.argmax())

    @property
    def plateau(self) -> np.ndarray:
        """Whether a threshold's mean lies within 5 % of the best, bool[T]."""
        return self.mean >= PLATEAU * self.mean[self.best]

    @property
    def plateau_ranges(self) -> list[tuple[float, float]]:
        """The plateau as ranges of thresholds: one, unless the curve has several summits."""
        half = float(np.diff(self.thresholds).min()) / 2 if len(self.thresholds) > 1 else 0.0
        steps = np.diff(np.concatenate([[0], self.plateau, [0]]).astype(int))
        first, after = np.nonzero(steps == 1)[0], np.nonzero(steps == -1)[0]
        return [
            (
                max(0.0, float(self.thresholds[i]) - half),
                min(1.0, float(self.thresholds[j - 1]) + half),
            )
            for i, j in zip(first, after, strict=True)
        ]


def read_summary(path: Path) -> dict[str, Any]:
    """Read summary.json; raises InputError when it is missing or no summary."""
    try:
        summary = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(summary["methods"], dict):
            raise TypeError("`methods` is no table")
        return summary
    except FileNotFoundError:
        raise InputError(f"{path}: no such file; run the workflow, which writes it") from None
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise InputError(f"{path}: not a summary of a run ({error})") from error


def read_table(path: Path) -> list[dict[str, str]]:
    """Read a CSV table; raises InputError when it is missing or unreadable."""
    try:
        with path.open(newline="", encoding="utf-8") as stream:
            return list(csv.DictReader(stream))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{path}: not a readable table ({error}); run the workflow") from error


def curves_of(rows: Sequence[dict[str, str]], figure: str, split: str) -> dict[str, Curve]:
    """Return the curves of a figure ("miou", "refined_miou" …) by method, from `curves.csv`."""
    by_method: dict[str, dict[str, list[tuple[float, float]]]] = {}
    for row in rows:
        if row["split"] == split and row[figure]:
            trials = by_method.setdefault(row["method"], {})
            points = trials.setdefault(row["trial"], [])
            points.append((float(row["threshold"]), float(row[figure])))
    return {
        method: Curve(
            np.array([threshold for threshold, _ in next(iter(trials.values()))]),
            np.array([[value for _, value in points] for points in trials.values()]),
        )
        for method, trials in by_method.items()
    }


def evaluated_split(summary: dict[str, Any]) -> str | None:
    """Return the split that figures are about: `val` where it was swept, else the last one swept.

    None without any sweep, which is how a run without masks looks.
    """
    splits: list[str] = []
    for sections in summary["methods"].values():
        splits += [split for split in sections.get("activations", {}) if split not in splits]
    if "val" in splits:
        return "val"
    return splits[-1] if splits else None


def training_losses(run: Path, histories: Sequence[Path]) -> dict[str, list[np.ndarray]]:
    """Return the loss of each epoch, one array a trial, by network (method, or "method/t0.50/segmentation").

    Args:
        run: Folder of the run.
        histories: training.csv of each network and trial, below the run's folder.

    Raises InputError when a file is no training table, or lies elsewhere.
    """
    losses: dict[str, list[np.ndarray]] = {}
    for path in histories:
        rows = read_table(path)
        try:
            _, *network = path.parent.relative_to(run).parts
            loss = np.array([float(row["loss"]) for row in rows])
        except (KeyError, ValueError) as error:
            raise InputError(f"{path}: not a training table of {run} ({error!r})") from error
        losses.setdefault("/".join(network), []).append(loss)
    return losses


@dataclass(frozen=True)
class RunData:
    """A run, seen by the report."""

    folder: RunFolder
    trials: tuple[int, ...]
    methods: tuple[str, ...]
    sources: tuple[str, ...]
    summary_path: Path
    curves_path: Path
    benchmarks: Benchmarks | None
    histories: tuple[Path, ...] = ()
    """Tables of the trainings, below the run's folder."""

    @cached_property
    def summary(self) -> dict[str, Any]:
        """Contents of summary.json."""
        return read_summary(self.summary_path)

    @cached_property
    def split(self) -> str:
        """The split that figures are about; raises InputError when nothing was evaluated."""
        split = evaluated_split(self.summary)
        if split is None:
            raise InputError(
                f"{self.summary_path}: no activations were swept, as the dataset has no masks;"
                " leave figures out that need ground truth"
            )
        return split

    @cached_property
    def thresholds(self) -> tuple[float, ...]:
        """Thresholds that the configuration names for all methods alike."""
        return tuple(t for t in map(threshold_of, self.sources) if t is not None)

    def chosen_thresholds(self, source: str) -> dict[str, float]:
        """Return the thresholds behind "auto" or "validation" by method, means over trials."""
        found = {
            method: [self.folder.threshold(trial, method, source) for trial in self.trials]
            for method in self.methods
            if method != REFERENCE
        }
        return {
            method: sum(chosen) / len(chosen)
            for method, trials in found.items()
            if len(chosen := [t for t in trials if t is not None]) == len(trials)
        }

    def curves(self, figure: str, split: str) -> dict[str, Curve]:
        """Return the curves of all methods."""
        found = curves_of(read_table(self.curves_path), figure, split)
        return {method: found[method] for method in self.methods if method in found}

    def sweeps(self, split: str) -> dict[str, Sweeps]:
        """Return the first trial's sweeps by method."""
        found = {method: self.folder.sweeps(self.trials[0], method) for method in self.methods}
        return {method: sweeps[split] for method, sweeps in found.items() if split in sweeps}

    def confusions(self, kind: str, split: str) -> dict[str, list[Confusion]]:
        """Return the counts of "pseudo_masks" or "segmentation", one a trial, by method.

        They are those of the first threshold; of true masks for the reference.
        """
        found: dict[str, list[Confusion]] = {}
        for method in self.methods:
            source = TRUTH if method == REFERENCE else self.sources[0]
            trials = [self.folder.masks(trial, method, source, kind) for trial in self.trials]
            if all(split in trial for trial in trials):
                found[method] = [trial[split].total for trial in trials]
        return found

    def section(self, name: str) -> dict[str, dict[str, Any]]:
        """Return a section of the summary by method, where a method has it."""
        methods = self.summary["methods"]
        return {m: methods[m][name] for m in self.methods if name in methods.get(m, {})}

    def costs(self) -> dict[str, StageCost]:
        """Return what each stage took."""
        return self.benchmarks.costs() if self.benchmarks else {}

    def losses(self) -> dict[str, list[Any]]:
        """Return the training losses of every network."""
        return training_losses(self.folder.path, self.histories)


Draw = Callable[[RunData, Path], None]


def need(data: Sequence[Any] | dict[str, Any], run: RunData, what: str) -> None:
    """Raise InputError when there is nothing to draw."""
    if not data:
        raise InputError(
            f"{run.folder.path}: the run has no {what}; run the workflow, or leave this figure out"
        )
