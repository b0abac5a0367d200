"""Compare a folder of predicted masks with a folder of true ones.

Masks are indexed or grey images without loss, or in colours, of a `labelmap.txt` or of VOC's palette: 0
background, classes from 1, 255 ignored. Files are paired by their path below the two folders; every true mask
needs a prediction. The folder of predictions may hold shards of the workflow (zip) instead. Prints, and
writes if asked, mIoU, IoU of each class, pixel accuracy, boundary IoU and the kinds of errors, the same
figures as the workflow's. Pixels whose truth is 255 never count; the mean is over the classes that occur in
truth or prediction.
"""

import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import Field

from workflow_scripts.console.progress import progress
from workflow_scripts.console.stage import StageFiles, run_stage
from workflow_scripts.datasets.index import MAX_CLASSES, read_classes
from workflow_scripts.datasets.label_map import find_label_map, masks_in
from workflow_scripts.datasets.parallel import in_threads
from workflow_scripts.errors import InputError
from workflow_scripts.evaluation.confusion import BoundaryIou, Confusion
from workflow_scripts.evaluation.truth import Masks, masks_below, pair
from workflow_scripts.settings.evaluation import EvaluateSettings
from workflow_scripts.storage.atomic import atomic_path
from workflow_scripts.storage.masks import IGNORE


class Files(StageFiles):
    """Inputs and outputs."""

    pred: Path = Field(description="folder of predicted masks (images, or zip shards)")
    truth: Path = Field(description="folder of true masks (images)")
    classes: Path | None = Field(
        None, description="classes.csv with the names of the classes; any number from 1 without it"
    )
    out: Path | None = Field(None, description="file of figures to write (JSON)")


def compare(
    names: Sequence[str],
    predictions: Masks,
    truths: Masks,
    classes: int,
    threads: int = 1,
) -> tuple[Confusion, BoundaryIou]:
    """Count all pairs of masks; InputError, naming the mask, when two do not fit."""

    def load(name: str) -> tuple[str, np.ndarray, np.ndarray]:
        return name, truths[name](), predictions[name]()

    confusion, boundary = Confusion.empty(classes), BoundaryIou(classes)
    shown = ignored = False
    loaded = progress(in_threads(load, names, threads), total=len(names), description="evaluate")
    for name, truth, prediction in loaded:
        try:
            confusion.update(truth, prediction)
        except ValueError as error:
            raise InputError(
                f"mask {name!r}: {error}. Give masks of one size, and the list of classes that"
                " both were made with."
            ) from error
        boundary.update(truth, prediction)
        shown = shown or bool(np.any((truth > 0) & (truth < IGNORE)))
        ignored = ignored or bool(np.any(truth == IGNORE))
    if ignored and not shown:
        raise InputError(
            f"all {len(names)} true masks hold 0 and {IGNORE} alone, and {IGNORE} means ignored: there is no"
            f" class to evaluate. Write the number of the class (1 for the first) in place of {IGNORE}."
        )
    return confusion, boundary


def figures(
    confusion: Confusion, boundary: BoundaryIou, names: Sequence[str], settings: EvaluateSettings
) -> dict[str, Any]:
    """Return all figures, IoU and accuracy in percent; classes that never occur are left out."""
    policy = settings.ignored
    rows = zip(
        names,
        confusion.iou(policy),
        confusion.precision(policy),
        confusion.recall(policy),
        boundary.iou(),
        strict=True,
    )
    columns = ("iou", "precision", "recall", "boundary_iou")
    return {
        "ignored_predictions": policy,
        "miou": _percent(confusion.mean_iou(policy)),
        "pixel_accuracy": _percent(confusion.pixel_accuracy(policy)),
        "boundary_iou": _percent(boundary.mean()),
        "errors": {
            kind: _percent(share) for kind, share in asdict(confusion.errors(policy)).items()
        },
        "per_class": {
            name: dict(zip(columns, map(_percent, values), strict=True))
            for name, *values in rows
            if not np.isnan(values[0])
        },
    }


def _percent(share: float) -> float | None:
    return None if np.isnan(share) else 100 * float(share)


def table(result: dict[str, Any]) -> str:
    """Return the figures as lines of text."""
    wrong = "count as wrong" if result["ignored_predictions"] == "wrong" else "do not count"
    lines = [
        f"mIoU {_show(result['miou'])}  pixel accuracy {_show(result['pixel_accuracy'])}"
        f"  boundary IoU {_show(result['boundary_iou'])}  (%; predictions of 255 {wrong})",
        "errors, % of pixels: "
        + ", ".join(f"{kind} {_show(v)}" for kind, v in result["errors"].items()),
        f"{'class':24}{'IoU':>8}{'precision':>11}{'recall':>8}{'boundary':>10}",
    ]
    lines += [
        f"{name:24}{_show(row['iou']):>8}{_show(row['precision']):>11}{_show(row['recall']):>8}"
        f"{_show(row['boundary_iou']):>10}"
        for name, row in result["per_class"].items()
    ]
    return "\n".join(lines)


def _show(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"


def work(files: Files, settings: EvaluateSettings) -> None:
    """Compare the folders, print the figures and write them if asked."""
    known = None if files.classes is None else list(read_classes(files.classes))
    for folder in (files.pred, files.truth):
        if known is None and (label_map := find_label_map(masks_in(folder))):
            raise InputError(
                f"{label_map}: colours stand for names there, whose numbers may be others in the other"
                " folder; give `--classes`, the classes.csv of the run or dataset"
            )
    predictions, truths = (masks_below(folder, known) for folder in (files.pred, files.truth))
    names = pair(predictions, truths, files.pred, files.truth)
    classes = known or [f"class {number}" for number in range(1, MAX_CLASSES + 1)]
    confusion, boundary = compare(names, predictions, truths, len(classes), files.threads)
    result = figures(confusion, boundary, ["background", *classes], settings)
    if files.out is not None:
        used = 1 + int(np.flatnonzero(~np.isnan(confusion.iou("wrong"))).max(initial=0))
        used = used if files.classes is None else 1 + len(classes)
        content = result | {
            "images": len(names),
            "classes": classes[: used - 1],
            "confusion": confusion.counts[:used, [*range(used), -1]].tolist(),
        }
        with atomic_path(files.out) as temporary:
            temporary.write_text(json.dumps(content, ensure_ascii=False, indent=1) + "\n", "utf-8")
    print(table(result))


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit code."""
    return run_stage("evaluate", __doc__, Files, EvaluateSettings, work, argv)


if __name__ == "__main__":
    sys.exit(main())
