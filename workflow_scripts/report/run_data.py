"""All that the figures of a run are drawn from, read when it is first asked for."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from workflow_scripts.errors import InputError
from workflow_scripts.evaluation.confusion import Confusion
from workflow_scripts.evaluation.run_results import (
    TRUTH,
    Benchmarks,
    RunFolder,
    StageCost,
    threshold_of,
)
from workflow_scripts.evaluation.threshold_sweep import Sweeps
from workflow_scripts.report.catalogue import REFERENCE
from workflow_scripts.report.run_tables import (
    Curve,
    curves_of,
    evaluated_split,
    read_summary,
    read_table,
    training_losses,
)


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
