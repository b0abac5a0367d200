"""Compare one shard of masks with ground truth: seeds, pseudo-masks or predictions.

Reads the index, one shard of masks (zip) and the ground truth of its images; writes the pixel
counts of the shard and of each image by true and predicted class (JSON). Ignored pixels (255) of
the masks are counted apart, so that each figure can say what it makes of them.
"""

import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from pydantic import Field

from workflow_scripts.console.progress import progress
from workflow_scripts.console.shards import ShardFiles
from workflow_scripts.console.stage import NoSettings, run_stage
from workflow_scripts.datasets.index import ImageRecord
from workflow_scripts.datasets.parallel import in_threads
from workflow_scripts.errors import InputError
from workflow_scripts.evaluation.confusion import Confusion, EvaluationWriter
from workflow_scripts.evaluation.truth import read_truth, with_truth
from workflow_scripts.storage.masks import MaskReader


class Files(ShardFiles):
    """Inputs and outputs."""

    masks: Path = Field(description="shard of masks (zip of indexed PNG)")
    output: Path = Field(description="file of counts to write (JSON)")


def evaluate_shard(
    records: Sequence[ImageRecord],
    reader: MaskReader,
    classes: Sequence[str],
    output: Path,
    threads: int = 1,
    title: str = "evaluate_masks",
) -> None:
    """Write the counts of the masks of images that have a truth.

    Raises InputError when a mask or its ground truth cannot be used.
    """

    records = with_truth(records)

    def load(record: ImageRecord) -> tuple[ImageRecord, np.ndarray, np.ndarray]:
        return record, read_truth(record), reader.read(record.id)

    loaded = progress(in_threads(load, records, threads), total=len(records), description=title)
    with EvaluationWriter(output, classes) as writer:
        for record, truth, mask in loaded:
            try:
                writer.write(record.id, Confusion.empty(len(classes)).update(truth, mask))
            except ValueError as error:
                raise InputError(
                    f"{record.mask} (truth) against {reader.path} (prediction), image"
                    f" {record.id!r}: {error}"
                ) from error


def work(files: Files, settings: NoSettings) -> None:
    """Evaluate one shard."""
    index, records = files.read()
    title = f"evaluate_masks {files.split} {files.shard}"
    with MaskReader(files.masks) as reader:
        evaluate_shard(records, reader, index.classes, files.output, files.threads, title)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the stage; returns its exit code."""
    return run_stage("evaluate_masks", __doc__, Files, NoSettings, work, argv)


if __name__ == "__main__":
    sys.exit(main())
