"""Make pseudo-masks for new images whose labels are known, with the networks of a finished run.

The run's method makes the activations, from seeds of the method that it learnt from where it reads such,
and these the masks: with the scales, thresholds, boundaries and CRF that the run's config.yaml names. The
table of labels is a CSV file with the columns `image` (path below the folder of images) and `labels` (class
names separated by `;`). Writes VOC's layout (JPEGImages, SegmentationClass, ImageSets, labels.txt) and
annotations.json in COCO's format (RLE), so that annotation tools can open and correct the masks. An
image that cannot be read is reported and left out; the command then ends with exit code 2.
"""

import difflib
import logging
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from pydantic import Field

from workflow_scripts.console.progress import progress
from workflow_scripts.console.stage import PluggedFiles, run_stage
from workflow_scripts.datasets.annotation_export import AnnotationWriter
from workflow_scripts.datasets.files import images_below
from workflow_scripts.datasets.table import TableRow, find_images, make_ids, read_table
from workflow_scripts.errors import InputError
from workflow_scripts.planning.configuration import configuration_of_run
from workflow_scripts.refinement.labeller import Labeller, Shown
from workflow_scripts.report.judged_table import in_order
from workflow_scripts.settings.evaluation import LabelSettings
from workflow_scripts.training.distributed import choose_device
from workflow_scripts.training.inference_pipeline import ReadableImages, written_behind

logger = logging.getLogger(__name__)


class Files(PluggedFiles):
    """Inputs and outputs."""

    run: Path = Field(description="folder of a finished run, results/<run>")
    images: Path = Field(description="folder of images")
    labels: Path = Field(description="table of their labels (CSV: image, labels)")
    out: Path = Field(description="folder to write to")
    method: str | None = Field(
        None, description="one of the run's methods; the last that has activations if left out"
    )
    trial: int = Field(0, ge=0, description="trial of the run whose networks to use")
    device: str = Field("auto", description="auto, cpu or cuda")
    order: Path | None = Field(
        None,
        description="images.csv of `judge`, or a list that the gallery saved: label the images that it "
        "names, in the order in which to look at them",
    )
    first: int | None = Field(
        None,
        ge=1,
        description="label so many images alone, the first of the order or of the table; --out may not hold "
        "masks of others",
    )


def numbers_of(table: Path, row: TableRow, classes: Sequence[str]) -> list[int]:
    """Class numbers of a row, ascending; InputError for a label that the run does not know."""
    for label in row.labels:
        if label not in classes:
            near = difflib.get_close_matches(label, classes, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"it knows {', '.join(classes)}"
            raise InputError(
                f"{table}, line {row.line}: image {row.image!r} has the label {label!r}, which the"
                f" run was not trained on; {hint}"
            )
    return sorted(classes.index(label) + 1 for label in row.labels)


def work(files: Files, settings: LabelSettings) -> None:
    """Label the images."""
    folder = images_below(files.images, out=files.out)
    device = choose_device(files.device)
    configuration = configuration_of_run(files.run)
    method = configuration.asked_for(files.method)
    labeller = Labeller(files.run, configuration, files.trial, method, settings.threshold, device)
    rows = read_table(files.labels, labeller.classes)
    names = find_images(files.labels, rows, folder)
    labels = [numbers_of(files.labels, row, labeller.classes) for row in rows]
    logger.info("background threshold %.3f", labeller.threshold)
    ids = make_ids(names)
    places = dict(zip(names, zip(ids, labels, strict=True), strict=True))
    if files.order is not None:
        names = in_order(files.order, dict(zip(names, zip(names, ids, strict=True), strict=True)))
    names = names[: files.first]
    writer = AnnotationWriter(
        files.out,
        labeller.classes,
        [places[name][0] for name in names],
        replaces=files.first is None and files.order is None,
    )

    sources = {name: folder.files[name] for name in names}
    images = ReadableImages(sources, device, files.threads)
    shown_images = (Shown(name, image, tuple(places[name][1])) for name, image in images)

    def write(shown: Shown, mask: np.ndarray) -> None:
        source = folder.files[shown.name]
        writer.write(places[shown.name][0], shown.name, source, shown.image, mask)

    masks = labeller.masks(shown_images, files.threads)
    with written_behind(write) as put:
        for shown, mask in progress(masks, total=len(names), description="label"):
            put(shown, mask)
    writer.finish()
    images.check("mask", files.out)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit code."""
    return run_stage("label", __doc__, Files, LabelSettings, work, argv)


if __name__ == "__main__":
    sys.exit(main())
