"""Gather the results of all trials of a run into its summary and tables.

Reads the threshold sweeps, compositions of seeds and evaluations below the run's folder, for the
given trials, methods, sources of pseudo-masks and shards; what is not there was not computed and is
absent from the summary, as is what belongs to another configuration. Writes summary.json, the same as
a table, the curves over thresholds, and the differences between methods with bootstrap intervals. IoU
is in percent.
"""

import csv
import json
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import combinations
from pathlib import Path
from typing import Any

from pydantic import Field

from workflow_scripts.console.run_files import MeasuredRunFiles
from workflow_scripts.console.stage import run_stage
from workflow_scripts.datasets.index import read_index
from workflow_scripts.errors import InputError
from workflow_scripts.evaluation.confusion import Evaluation
from workflow_scripts.evaluation.run_results import (
    TRUTH,
    RunFolder,
    source_key,
)
from workflow_scripts.evaluation.summary import (
    curve_rows,
    flatten,
    image_counts,
    paired_difference,
    summarise_method,
)
from workflow_scripts.settings.evaluation import SummarySettings
from workflow_scripts.storage.atomic import atomic_path

SUMMARY_COLUMNS = (
    "method", "section", "split", "threshold", "figure", "class", "mean", "std", "values",
)  # fmt: skip
CURVE_COLUMNS = (
    "trial", "method", "split", "threshold", "miou", "precision", "recall", "refined_miou",
)  # fmt: skip
DIFFERENCE_COLUMNS = (
    "trial", "section", "split", "threshold", "first", "second", "difference", "low", "high",
    "confidence", "share_above_zero", "significant", "images", "draws",
)  # fmt: skip


class Files(MeasuredRunFiles):
    """Inputs and outputs."""

    index: Path = Field(description="index.csv of the dataset")
    dataset: str = Field(description="name of the dataset, for the summary")
    trials: tuple[int, ...] = Field(min_length=1, description="numbers of the trials")
    sources: tuple[str, ...] = Field(
        min_length=1, description="sources of pseudo-masks, t0.50 …; the first is reported first"
    )
    summary: Path = Field(description="summary to write (JSON)")
    table: Path = Field(description="table of the summary to write (CSV)")
    curves: Path = Field(description="table of curves over thresholds to write (CSV)")
    differences: Path = Field(
        description="table of differences between methods to write (CSV), mIoU of the second minus"
        " the first, in points"
    )

    @property
    def owned(self) -> Path:
        """The output that only one job may write at a time."""
        return self.summary


def work(files: Files, settings: SummarySettings) -> None:
    """Write the summary and its tables."""
    index = read_index(files.index)
    folder = files.folder
    costs = files.costs.costs() if files.costs else {}
    methods = {}
    refinements: set[str] = set()
    for method in files.methods:
        sources = [*files.sources, TRUTH]
        trials = [folder.method_results(trial, method, sources) for trial in files.trials]
        figures = summarise_method(trials, index.classes)
        if not figures:
            raise InputError(
                f"{files.run}: no results of method {method!r}. Run the workflow, or name the"
                " methods that this run has."
            )
        methods[method] = figures
        sweeps = [sweep.refined for trial in trials for sweep in trial.sweeps.values()]
        refinements |= {sweep.refinement for sweep in sweeps if sweep is not None}
    summary = {
        "run": files.run.name,
        "dataset": files.dataset,
        "classes": list(index.classes),
        "images": {split: len(index.of_split(split)) for split in folder.splits},
        "trials": len(files.trials),
        **({"refinement": "/".join(sorted(refinements))} if refinements else {}),
        "seconds": {stage: cost.seconds for stage, cost in costs.items()},
        "methods": methods,
    }
    with atomic_path(files.summary) as temporary:
        text = json.dumps(summary, ensure_ascii=False, indent=2, allow_nan=False)
        temporary.write_text(text + "\n", encoding="utf-8")
    _write_table(files.table, SUMMARY_COLUMNS, flatten(methods))
    _write_table(files.curves, CURVE_COLUMNS, _curves(files, folder))
    _write_table(files.differences, DIFFERENCE_COLUMNS, _differences(files, folder, settings))


def _curves(files: Files, folder: RunFolder) -> Iterator[dict[str, Any]]:
    for trial in files.trials:
        for method in files.methods:
            for split, sweeps in folder.sweeps(trial, method).items():
                if sweeps.plain.images().ids:
                    yield from curve_rows(trial, method, split, sweeps)


def _differences(
    files: Files, folder: RunFolder, settings: SummarySettings
) -> Iterator[dict[str, Any]]:
    for trial in files.trials:
        for source in files.sources:
            for section in ("pseudo_masks", "segmentation"):
                found = {
                    method: folder.masks(trial, method, source, section) for method in files.methods
                }
                for first, second in combinations(files.methods, 2):
                    place = {
                        "trial": trial,
                        "section": section,
                        "threshold": source_key(source),
                        "first": first,
                        "second": second,
                    }
                    for row in _split_differences(found[first], found[second], settings):
                        yield place | row


def _split_differences(
    first: Mapping[str, Evaluation], second: Mapping[str, Evaluation], settings: SummarySettings
) -> Iterator[dict[str, Any]]:
    for split in first:
        if split not in second or not first[split].images:
            continue
        if first[split].images.keys() != second[split].images.keys():
            raise InputError(
                f"evaluations of split {split!r} hold other images for one method than for another;"
                " delete them, so that evaluate_masks runs again"
            )
        ids = list(first[split].images)
        result = paired_difference(
            image_counts(first[split], ids, "wrong"),
            image_counts(second[split], ids, "wrong"),
            draws=settings.bootstrap_draws,
            confidence=settings.bootstrap_confidence,
            seed=settings.bootstrap_seed,
        )
        yield {
            "split": split,
            "difference": 100 * result.difference,
            "low": 100 * result.low,
            "high": 100 * result.high,
            "confidence": settings.bootstrap_confidence,
            "share_above_zero": result.share_above_zero,
            "significant": result.significant,
            "images": result.images,
            "draws": result.draws,
        }


def _write_table(path: Path, columns: Sequence[str], rows: Iterable[dict[str, Any]]) -> None:
    with (
        atomic_path(path) as temporary,
        temporary.open("w", newline="", encoding="utf-8") as stream,
    ):
        writer = csv.DictWriter(stream, columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the stage; returns its exit code."""
    return run_stage("summarise", __doc__, Files, SummarySettings, work, argv)


if __name__ == "__main__":
    sys.exit(main())
