"""Measure the rules behind `auto` on a finished run that has masks: threshold, mIoU there, regret.

For each trial and method, every rule chooses a threshold from the activations of one split, without
masks; the stored threshold sweeps, made with masks, say what it is worth. Regret is the best mIoU of
any threshold minus the mIoU at the chosen one, in points. Constants, and with `--validation-split` the
best threshold of that split, are measured beside the rules. Prints a table of means, and writes every row.
"""

import csv
import sys
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import Field

from workflow_scripts.console.stage import PluggedFiles, run_stage
from workflow_scripts.datasets.index import Index, read_index
from workflow_scripts.doors.threshold_rule import FALLBACK, THRESHOLD_RULES, ThresholdSettings
from workflow_scripts.errors import InputError
from workflow_scripts.evaluation.activation_statistics import (
    ActivationStatistics,
    candidates_of,
    read_activations,
    refinements_of,
    statistics_of,
)
from workflow_scripts.evaluation.confusion import Confusion
from workflow_scripts.evaluation.threshold_sweep import ThresholdCurve, merge_shards
from workflow_scripts.evaluation.truth import read_truth
from workflow_scripts.planning.configuration import configuration_of_run
from workflow_scripts.refinement.thresholding import dataset_labels, local_labels
from workflow_scripts.report.catalogue import REFERENCE
from workflow_scripts.settings.refinement import VALIDATION
from workflow_scripts.storage.atomic import atomic_path
from workflow_scripts.storage.chosen_thresholds import ChosenThresholds
from workflow_scripts.storage.shard_files import shard_names

FIGURES = ("threshold", "miou", "best_threshold", "best_miou", "regret")
COLUMNS = ("run", "trial", "method", "split", "rule", *FIGURES)
GIVEN = (0.25, 0.3, 0.45, 0.5)


class Files(PluggedFiles):
    """Inputs and outputs."""

    run: Path = Field(description="folder of the run, results/<run>")
    split: str = Field("train", description="split whose activations choose, and are scored")
    validation_split: str | None = Field(
        None, description="split whose masks choose the threshold of the rule `validation`"
    )
    out: Path | None = Field(None, description="table to write (CSV)")


@dataclass(frozen=True)
class FinishedRun:
    """What a run's configuration says is there: shards of other configurations lie beside them."""

    path: Path
    trials: int
    methods: tuple[str, ...]
    shards: int

    @classmethod
    def read(cls, path: Path) -> "FinishedRun":
        """Read it; raises InputError for what is no run."""
        settings = configuration_of_run(path)
        methods = tuple(method for method in settings.methods if method != REFERENCE)
        return cls(path, settings.trials, methods, settings.shards)

    @property
    def places(self) -> list[tuple[str, str]]:
        """Trial and method of all activations, trials ascending."""
        return [(str(trial), method) for trial in range(self.trials) for method in self.methods]

    def files(self, trial: str, method: str, kind: str, split: str) -> list[Path]:
        """Return the shards of a split's "activations" or "sweep", in order.

        Raises InputError when one is missing.
        """
        folder = self.path / trial / method / kind
        found = [folder / f"{name}.safetensors" for name in shard_names(split, self.shards)]
        for path in found:
            if not path.is_file():
                raise InputError(
                    f"{path}: no such file. Run the workflow on a dataset with masks first, with"
                    f" {split!r} among `splits.activations`"
                )
        return found


def rows(files: Files, settings: ThresholdSettings) -> Iterator[dict[str, Any]]:
    """Yield one row for each trial, method and rule."""
    index = read_index(files.run / "dataset" / "index.csv")
    run = FinishedRun.read(files.run)
    for trial, method in run.places:
        sweeps = run.files(trial, method, "sweep", files.split)
        shards = run.files(trial, method, "activations", files.split)
        curve = merge_shards(sweeps).plain.curve()
        statistics = statistics_of(index, shards, settings)
        found = _candidates(statistics, index, shards, settings)
        tables = _tables(found, statistics, index, shards, settings)
        found |= {f"given {threshold:.2f}": threshold for threshold in GIVEN}
        if files.validation_split:
            other = run.files(trial, method, "sweep", files.validation_split)
            chosen = merge_shards(other).plain.curve()
            found[VALIDATION] = float(chosen.thresholds[chosen.best])
        for rule, threshold in found.items():
            miou = curve.miou_at(threshold)
            if rule in tables:
                miou = _miou_of_table(tables[rule], index, shards)
            yield _row(files, (trial, method, rule), threshold, miou, curve)


def _candidates(
    statistics: ActivationStatistics,
    index: Index,
    shards: Sequence[Path],
    settings: ThresholdSettings,
) -> dict[str, float]:
    """What `auto` would choose by each rule there is."""
    names = THRESHOLD_RULES.names()
    found = candidates_of(names, statistics, index, shards, settings)
    return {name: found.get(name, found[FALLBACK]) for name in names}


def _tables(
    found: Mapping[str, float],
    statistics: ActivationStatistics,
    index: Index,
    shards: Sequence[Path],
    settings: ThresholdSettings,
) -> dict[str, ChosenThresholds]:
    """What rules choose that give classes or images thresholds of their own."""
    tables = {}
    for name, threshold in found.items():
        classes, images = refinements_of(name, threshold, statistics, index, shards)
        if classes or images:
            chosen = ChosenThresholds.around(threshold, name, settings.seed_margin, {})
            tables[name] = chosen.with_tables(classes, images)
    return tables


def _miou_of_table(chosen: ChosenThresholds, index: Index, shards: Sequence[Path]) -> float:
    """Mean IoU of the masks at thresholds of classes and images, counted like a sweep's."""
    confusion = Confusion.empty(len(index.classes))
    for record, activation in read_activations(index, shards):
        if record.mask is not None:
            thresholds = chosen.of(record.id, record.labels, index.classes)
            mask = dataset_labels(local_labels(activation, thresholds), record.labels)
            confusion.update(read_truth(record), mask)
    return confusion.mean_iou("skip")


def _row(
    files: Files, place: tuple[str, str, str], threshold: float, share: float, curve: ThresholdCurve
) -> dict[str, Any]:
    trial, method, rule = place
    miou, best = 100 * share, 100 * float(curve.miou[curve.best])
    return {
        "run": files.run.resolve().name,
        "trial": trial,
        "method": method,
        "split": files.split,
        "rule": rule,
        "threshold": round(threshold, 4),
        "miou": round(miou, 3),
        "best_threshold": round(float(curve.thresholds[curve.best]), 4),
        "best_miou": round(best, 3),
        "regret": round(best - miou, 3),
    }


def table(found: Sequence[dict[str, Any]]) -> str:
    """Return means over the trials as lines of text, smallest regret first within a method."""
    groups = defaultdict(list)
    for row in found:
        groups[row["method"], row["rule"]].append(row)
    lines = [
        f"{'method':16}{'rule':22}{'threshold':>10}{'mIoU':>8}{'best':>8}{'regret':>8}  trials"
    ]
    means = {
        key: {name: float(np.mean([row[name] for row in group])) for name in FIGURES}
        for key, group in groups.items()
    }
    for method, rule in sorted(groups, key=lambda key: (key[0], means[key]["regret"])):
        mean = means[method, rule]
        lines.append(
            f"{method:16}{rule:22}{mean['threshold']:10.3f}{mean['miou']:8.2f}"
            f"{mean['best_miou']:8.2f}{mean['regret']:8.2f}"
            f"  {'; '.join(str(row['regret']) for row in groups[method, rule])}"
        )
    return "\n".join(lines)


def work(files: Files, settings: ThresholdSettings) -> None:
    """Print the table and write it if asked."""
    found = list(rows(files, settings))
    print(table(found))
    if files.out is not None:
        with atomic_path(files.out) as temporary, temporary.open("w", newline="") as stream:
            writer = csv.DictWriter(stream, COLUMNS, lineterminator="\n")
            writer.writeheader()
            writer.writerows(found)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit code."""
    return run_stage("compare_thresholds", __doc__, Files, ThresholdSettings, work, argv)


if __name__ == "__main__":
    sys.exit(main())
