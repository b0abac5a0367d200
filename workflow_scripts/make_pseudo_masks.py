"""Make the pseudo-masks of one shard: activations, a background threshold, and what refines them.

Writes a zip shard of indexed PNG masks.
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
from workflow_scripts.refinement.region_masks import merge_regions, read_regions
from workflow_scripts.refinement.thresholding import dataset_labels, local_labels, refined_labels
from workflow_scripts.settings.refinement import PseudoMaskSettings
from workflow_scripts.storage.activations import ActivationReader
from workflow_scripts.storage.chosen_thresholds import ChosenThresholds, read_thresholds
from workflow_scripts.storage.masks import MaskWriter


class Files(ShardFiles):
    """Inputs and outputs."""

    activations: Path = Field(description="shard of activations (safetensors)")
    threshold: float | None = Field(None, gt=0, lt=1, description="background threshold")
    thresholds: Path | None = Field(
        None, description="instead: file of choose_thresholds or validate_thresholds"
    )
    output: Path = Field(description="zip shard of pseudo-masks to write")


def thresholds_of(files: Files) -> ChosenThresholds | None:
    """The thresholds that were chosen; None where a number is given."""
    if files.threshold is not None and files.thresholds is None:
        return None
    if files.thresholds is not None and files.threshold is None:
        return read_thresholds(files.thresholds)
    raise InputError("give either --threshold, a number, or --thresholds, a file")


def work(files: Files, settings: PseudoMaskSettings) -> None:
    """Write the shard."""
    chosen = thresholds_of(files)
    index, records = files.read()
    with ActivationReader(files.activations) as reader, MaskWriter(files.output) as writer:

        def pseudo_mask(record: ImageRecord) -> tuple[ImageRecord, np.ndarray]:
            activations = reader.read_full(record.id, record.height, record.width)
            threshold: float | np.ndarray | None = files.threshold
            if chosen is not None:
                threshold = chosen.of(record.id, record.labels, index.classes)
            assert threshold is not None
            if settings.refinement == "none":
                labels = local_labels(activations, threshold)
            else:
                image = read_image(record.path)
                [labels] = refined_labels(image, activations, [threshold], settings)
            mask = dataset_labels(labels, record.labels)
            if settings.regions.folder is not None and record.labels:
                regions = read_regions(Path(settings.regions.folder), record)
                mask = merge_regions(mask, regions, settings.regions)
            return record, mask

        masks = in_threads(pseudo_mask, records, files.threads)
        title = f"make_pseudo_masks {files.split} {files.shard}"
        for record, mask in progress(masks, total=len(records), description=title):
            writer.write(record.id, mask)


def main(argv: Sequence[str] | None = None) -> int:
    """Command line of the stage."""
    return run_stage("make_pseudo_masks", __doc__, Files, PseudoMaskSettings, work, argv)


if __name__ == "__main__":
    sys.exit(main())
