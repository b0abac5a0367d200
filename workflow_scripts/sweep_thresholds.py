"""Score the activations of one shard at every background threshold, against ground truth.

Reads the index, one shard of activations and the masks of its images; writes one file of counts
(safetensors) from which every figure of the sweep follows. At the coarse thresholds the masks are
also refined, by a dense CRF or PAR, and scored; so they are at a threshold that a rule chose, if its file
is given.
"""

import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from pydantic import Field

from workflow_scripts.console.progress import progress
from workflow_scripts.console.shards import ShardFiles
from workflow_scripts.console.stage import run_stage
from workflow_scripts.datasets.images import read_image
from workflow_scripts.datasets.index import ImageRecord
from workflow_scripts.datasets.parallel import in_threads
from workflow_scripts.errors import InputError
from workflow_scripts.evaluation.threshold_sweep import (
    RefinedSweep,
    Sweeps,
    ThresholdSweep,
    even_thresholds,
    write_sweeps,
)
from workflow_scripts.evaluation.truth import read_truth, with_truth
from workflow_scripts.refinement.thresholding import dataset_labels, refined_labels
from workflow_scripts.settings.evaluation import SweepSettings
from workflow_scripts.storage.activations import ActivationReader
from workflow_scripts.storage.chosen_thresholds import read_thresholds


class Files(ShardFiles):
    """Inputs and outputs."""

    activations: Path = Field(description="shard of activations (safetensors)")
    thresholds: Path | None = Field(
        None, description="file of chosen thresholds: masks are refined at that of pseudo-masks too"
    )
    output: Path = Field(description="file of counts to write (safetensors)")


def sweep_records(
    records: Sequence[ImageRecord],
    reader: ActivationReader,
    classes: int,
    settings: SweepSettings,
    threads: int = 1,
    title: str = "sweep_thresholds",
) -> Sweeps:
    """Sweep the stored activations of images that have a truth.

    Raises InputError when an image or a mask cannot be used.
    """
    records = with_truth(records)
    plain = ThresholdSweep(classes, even_thresholds(settings.step))
    grid = settings.refined_thresholds
    refined = RefinedSweep(classes, grid, settings.refinement) if grid else None

    def load(record: ImageRecord) -> tuple[ImageRecord, np.ndarray, np.ndarray, np.ndarray | None]:
        activation = reader.read_full(record.id, record.height, record.width)
        truth = read_truth(record)
        masks = _refine(record, activation, settings) if grid else None
        return record, activation, truth, masks

    loaded = progress(in_threads(load, records, threads), total=len(records), description=title)
    for record, activation, truth, masks in loaded:
        try:
            plain.update(record.id, activation, record.labels, truth)
            if refined is not None:
                refined.update(truth, masks)
        except ValueError as error:
            raise InputError(f"{record.mask}: {error}; correct the mask") from error
    return Sweeps(plain, refined)


def _refine(record: ImageRecord, activation: np.ndarray, settings: SweepSettings) -> np.ndarray:
    """Return the refined labels at the coarse thresholds, uint8[P, H, W]."""
    image = read_image(record.path)
    masks = refined_labels(image, activation, settings.refined_thresholds, settings)
    return dataset_labels(np.stack(masks), record.labels)


def work(files: Files, settings: SweepSettings) -> None:
    """Sweep one shard."""
    index, records = files.read()
    if files.thresholds is not None:
        grid = {*settings.refined_thresholds, read_thresholds(files.thresholds).pseudo_mask}
        settings = settings.model_copy(update={"refined_thresholds": tuple(sorted(grid))})
    title = f"sweep_thresholds {files.split} {files.shard}"
    with ActivationReader(files.activations) as reader:
        sweeps = sweep_records(records, reader, len(index.classes), settings, files.threads, title)
    write_sweeps(files.output, sweeps)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the stage; returns its exit code."""
    return run_stage("sweep_thresholds", __doc__, Files, SweepSettings, work, argv)


if __name__ == "__main__":
    sys.exit(main())
