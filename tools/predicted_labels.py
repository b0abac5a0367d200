"""What masks are worth where nobody knows the labels: a table of a run that has masks.

    python -m tools.predicted_labels --run results/study --split val

Activations of a validation split are made with the images' true labels. This makes the masks of each method
and trial twice, at the run's first threshold: with the true labels, and with those that its classifier
predicts (`workflow_scripts/predict_labels.py`); both are compared with the truth. Nothing is chosen by it.
"""

import argparse
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from tools.photographs import commit, shown
from workflow_scripts.console.progress import progress
from workflow_scripts.datasets.images import read_image
from workflow_scripts.datasets.index import ImageRecord, read_index
from workflow_scripts.errors import InputError
from workflow_scripts.evaluation.confusion import Confusion
from workflow_scripts.evaluation.truth import read_truth, with_truth
from workflow_scripts.planning.configuration import FULL, WorkflowSettings, configuration_of_run
from workflow_scripts.predict_labels import ImageClassifier, labels_of
from workflow_scripts.refinement.labeller import Labeller, Shown
from workflow_scripts.report.names import method_name
from workflow_scripts.settings.evaluation import PredictLabelsSettings
from workflow_scripts.training.distributed import choose_device


class Row(NamedTuple):
    """Figures of a method and trial, percent."""

    given: float
    """mIoU of masks by the true labels."""
    predicted: float
    """mIoU of masks by predicted labels."""
    precision: float
    """Share of the predicted labels that are true."""
    recall: float
    """Share of the true labels that are predicted."""


COLUMNS = ("mIoU, true labels", "mIoU, predicted labels", "labels: precision", "labels: recall")


def miou(
    labeller: Labeller, records: Sequence[ImageRecord], labels: Sequence[Sequence[int]], title: str
) -> float:
    """Mean IoU, percent, of the masks of images by some labels."""
    confusion = Confusion.empty(len(labeller.classes))
    images = (
        Shown(record.id, read_image(record.path), tuple(some))
        for record, some in zip(records, labels, strict=True)
    )
    masks = progress(labeller.masks(images, 1), total=len(records), description=title)
    for record, (_, mask) in zip(records, masks, strict=True):
        confusion.update(read_truth(record), mask)
    return 100 * confusion.mean_iou("wrong")


def row(run: Path, settings: WorkflowSettings, split: str, method: str, trial: int) -> Row:
    """Measure one method and trial."""
    device = choose_device("auto")
    records = with_truth(read_index(run / "dataset" / "index.csv").of_split(split))
    classifier = ImageClassifier(run, settings, trial, method, device)
    chosen = PredictLabelsSettings()
    true = [tuple(record.labels) for record in records]
    predicted = [
        labels_of(classifier.probabilities(read_image(record.path), chosen.scales), chosen)
        for record in progress(records, description=f"predict labels {method} {trial}")
    ]
    right = sum(len(set(a) & set(b)) for a, b in zip(true, predicted, strict=True))
    labeller = Labeller(run, settings, trial, method, None, device)
    return Row(
        miou(labeller, records, true, f"{method} {trial}, true labels"),
        miou(labeller, records, predicted, f"{method} {trial}, predicted labels"),
        100 * right / max(sum(map(len, predicted)), 1),
        100 * right / max(sum(map(len, true)), 1),
    )


def lines(run: Path, split: str) -> Iterator[str]:
    """The table, line by line.

    Raises:
        InputError: The run is not there, not finished, or has no masks.
    """
    settings = configuration_of_run(run)
    count = len(read_index(run / "dataset" / "index.csv").of_split(split))
    yield (
        f"Run `{run.resolve().name}`, {count} {split} images, {settings.trials} trial(s), threshold "
        f"`{settings.thresholds[0]}`, refinement of masks {settings.pseudo_masks.refinement}; labels from a "
        f"probability of {PredictLabelsSettings().probability} on; mIoU in percent; commit {commit()}."
    )
    yield ""
    yield f"| method | {' | '.join(COLUMNS)} |"
    yield "| --- |" + " ---: |" * len(COLUMNS)
    for method in settings.methods:
        if method == FULL:
            continue
        rows = [row(run, settings, split, method, trial) for trial in range(settings.trials)]
        cells = (shown(values, 1, "") for values in np.array(rows).T.tolist())
        yield f"| {method_name(method)} | {' | '.join(cells)} |"


def main(argv: Sequence[str] | None = None) -> int:
    """Print the table; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m tools.predicted_labels",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--run", type=Path, required=True, help="folder of a finished run")
    parser.add_argument("--split", default="val", help="split of the images")
    given = parser.parse_args(argv)
    try:
        for line in lines(given.run, given.split):
            print(line, flush=True)
    except InputError as error:
        print(f"predicted_labels: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
