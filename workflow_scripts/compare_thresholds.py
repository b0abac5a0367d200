"""Measure the rules behind `auto` on a finished run that has masks: threshold, mIoU there, regret.

For each trial and method, every rule chooses a threshold from the activations of one split, without
masks; the stored threshold sweeps, made with masks, say what it is worth. Regret is the best mIoU of
any threshold minus the mIoU at the chosen one, in points. `agreement` chooses for pairs of methods
(kappa of their masks). With `--validation-split`, the best threshold of that split is measured too.
Prints a table of means, and writes every row.
"""

import csv
import sys
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import permutations
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import Field

from workflow_scripts.console.progress import progress
from workflow_scripts.console.stage import StageFiles, run_stage
from workflow_scripts.datasets.images import read_image
from workflow_scripts.datasets.index import Index, read_index
from workflow_scripts.errors import InputError
from workflow_scripts.evaluation.agreement import MethodAgreement, RefinementAgreement
from workflow_scripts.evaluation.sweep_file import merge_shards
from workflow_scripts.evaluation.threshold_choice import (
    Activation,
    count_images,
    gather,
    gather_colours,
    label_free_candidates,
    read_activations,
    sample_activations,
)
from workflow_scripts.evaluation.threshold_curve import ThresholdCurve
from workflow_scripts.evaluation.threshold_sweep import even_thresholds
from workflow_scripts.evaluation.thresholds import (
    method_agreement,
    most_stable,
    refinement_agreement,
)
from workflow_scripts.refinement.labeller import read_configuration
from workflow_scripts.refinement.thresholding import local_labels, refined_labels
from workflow_scripts.report.catalogue import REFERENCE
from workflow_scripts.settings.thresholds import VALIDATION, RuleComparisonSettings
from workflow_scripts.storage.atomic import atomic_path
from workflow_scripts.storage.shards import shard_names

FIGURES = ("threshold", "miou", "best_threshold", "best_miou", "regret")
COLUMNS = ("run", "trial", "method", "split", "rule", *FIGURES)
GIVEN = (0.3, 0.5)
AGREEMENT_STEP = 0.02
# Each costs a dense CRF an image; the best one is placed between them by a parabola.
REFINED_GRID = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)


class Files(StageFiles):
    """Inputs and outputs."""

    run: Path = Field(description="folder of the run, results/<run>")
    split: str = Field("train", description="split whose activations choose, and are scored")
    validation_split: str | None = Field(
        None, description="split whose masks choose the threshold of the rule `validation`"
    )
    refine: bool = Field(True, description="measure the rule `refinement` too, which is slow")
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
        values = read_configuration(path)
        methods = tuple(method for method in values["methods"] if method != REFERENCE)
        return cls(path, values["trials"], methods, values["shards"])

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


def rows(files: Files, settings: RuleComparisonSettings) -> Iterator[dict[str, Any]]:
    """Yield one row for each trial, method and rule."""
    index = read_index(files.run / "dataset" / "index.csv")
    run = FinishedRun.read(files.run)
    curves = {}
    for trial, method in run.places:
        sweeps = run.files(trial, method, "sweep", files.split)
        shards = run.files(trial, method, "activations", files.split)
        curve = curves[trial, method] = merge_shards(sweeps).plain.curve()
        found = _candidates(files, index, shards, settings)
        found |= {f"given {threshold:.2f}": threshold for threshold in GIVEN}
        if files.validation_split:
            other = run.files(trial, method, "sweep", files.validation_split)
            chosen = merge_shards(other).plain.curve()
            found[VALIDATION] = float(chosen.thresholds[chosen.best])
        for rule, threshold in found.items():
            yield _row(files, trial, method, rule, threshold, curve)
    yield from _agreements(files, run, index, curves)


def _candidates(
    files: Files, index: Index, shards: Sequence[Path], settings: RuleComparisonSettings
) -> dict[str, float]:
    thresholds = even_thresholds(settings.step)
    statistics = gather(read_activations(index, shards), len(index.classes), thresholds)
    sample = sample_activations(index, shards, settings.sample)
    images = count_images(shards)
    shown = progress(sample, total=min(settings.sample, images), description="colours")
    found = label_free_candidates(statistics, gather_colours(shown, thresholds))
    # As `auto` does.
    found.setdefault("colours", found["consensus"])
    found["stability"] = most_stable(statistics, settings.window)
    if files.refine:
        sample = sample_activations(index, shards, settings.refined_sample)
        seen = min(settings.refined_sample, images)
        shown = progress(sample, total=seen, description="refine")
        found["refinement"] = refinement_agreement(
            gather_agreement(shown, len(index.classes), settings)
        )
    return found


def gather_agreement(
    activations: Iterable[Activation], classes: int, settings: RuleComparisonSettings
) -> RefinementAgreement:
    """Compare the masks of some images at coarse thresholds with their refinement by a dense CRF."""
    agreement = RefinementAgreement(classes, REFINED_GRID)
    for record, activation in activations:
        if not record.labels:
            continue
        before = [local_labels(activation, threshold) for threshold in REFINED_GRID]
        after = refined_labels(
            read_image(record.path), activation, REFINED_GRID, settings.gt_prob, settings.crf
        )
        names = np.asarray((0, *record.labels), np.uint8)
        agreement.update([names[labels] for labels in before], [names[labels] for labels in after])
    return agreement


def _agreements(
    files: Files, run: FinishedRun, index: Index, curves: dict[tuple[str, str], ThresholdCurve]
) -> Iterator[dict[str, Any]]:
    """Yield the thresholds at which each pair of methods agrees best."""
    for (trial, first), (other, second) in permutations(curves, 2):
        if trial != other:
            continue
        agreement = MethodAgreement(even_thresholds(AGREEMENT_STEP))
        one, two = (
            read_activations(index, run.files(trial, method, "activations", files.split))
            for method in (first, second)
        )
        for (record, ours), (_, theirs) in zip(one, two, strict=True):
            if record.labels:
                agreement.update(ours, theirs)
        threshold, _ = method_agreement(agreement)
        rule = f"agreement with {second}"
        yield _row(files, trial, first, rule, threshold, curves[trial, first])


def _row(
    files: Files, trial: str, method: str, rule: str, threshold: float, curve: ThresholdCurve
) -> dict[str, Any]:
    miou, best = 100 * curve.miou_at(threshold), 100 * float(curve.miou[curve.best])
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


def work(files: Files, settings: RuleComparisonSettings) -> None:
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
    return run_stage("compare_thresholds", __doc__, Files, RuleComparisonSettings, work, argv)


if __name__ == "__main__":
    sys.exit(main())
