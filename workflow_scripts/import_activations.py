"""Import another method's activations of one shard from a folder of arrays.

For each image there is `{id}.npy`, or `{id}.npz` (array `activations`, and optionally `labels`: the class
number of each channel): [labels of the image, or all classes, or background and all classes; height;
width], at any resolution. Writes a shard like infer_cam's, so that seeds, AMN, boundaries, pseudo-masks and
segmentation can be put on top.
"""

import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from pydantic import Field

from workflow_scripts.console.progress import progress
from workflow_scripts.console.shards import ShardFiles
from workflow_scripts.console.stage import run_stage
from workflow_scripts.datasets.imported import read_activations
from workflow_scripts.datasets.index import ImageRecord
from workflow_scripts.datasets.parallel import in_threads
from workflow_scripts.settings.imports import ImportActivationsSettings
from workflow_scripts.storage.activations import ActivationWriter


class Files(ShardFiles):
    """Inputs and outputs."""

    arrays: Path = Field(description="folder of arrays, {id}.npy or {id}.npz")
    output: Path = Field(description="shard of activations to write (safetensors)")


def work(files: Files, settings: ImportActivationsSettings) -> None:
    """Write the shard."""
    index, records = files.read()

    def read(record: ImageRecord) -> tuple[ImageRecord, np.ndarray]:
        classes = len(index.classes)
        return record, read_activations(files.arrays, record, classes, settings.normalise)

    title = f"import_activations {files.split} {files.shard}"
    arrays = in_threads(read, records, files.threads)
    with ActivationWriter(files.output, records) as writer:
        for record, activations in progress(arrays, total=len(records), description=title):
            writer.write(record.id, activations)


def main(argv: Sequence[str] | None = None) -> int:
    """Command line of the stage."""
    return run_stage("import_activations", __doc__, Files, ImportActivationsSettings, work, argv)


if __name__ == "__main__":
    sys.exit(main())
