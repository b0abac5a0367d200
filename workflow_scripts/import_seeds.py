"""Import another method's seeds of one shard from a folder of masks.

For each image there is an indexed or grey `{id}.png` of the image's size: 0 background, i the i-th class,
255 ignored. Writes shards like refine_seeds', for AMN and the boundary network to learn from, and the masks
as hard activations, so that boundaries, pseudo-masks and segmentation can be put on top.
"""

import logging
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from pydantic import Field

from workflow_scripts.console.progress import progress
from workflow_scripts.console.shards import ShardFiles
from workflow_scripts.console.stage import NoSettings, run_stage
from workflow_scripts.datasets.imported import activations_of_seed, read_seed
from workflow_scripts.datasets.index import ImageRecord
from workflow_scripts.datasets.parallel import in_threads
from workflow_scripts.storage.activations import ActivationWriter
from workflow_scripts.storage.masks import MaskWriter, SeedPixels

logger = logging.getLogger(__name__)


class Files(ShardFiles):
    """Inputs and outputs."""

    masks: Path = Field(description="folder of masks, {id}.png")
    output: Path = Field(description="shard of activations to write (safetensors)")
    seeds: Path = Field(description="zip shard of seeds to write")
    composition: Path = Field(description="JSON file to write: pixels of each kind")

    @property
    def beside(self) -> tuple[Path, ...]:
        """Pixels of each kind."""
        return (self.composition,)


def work(files: Files, settings: NoSettings) -> None:
    """Write the shards and the seeds' composition."""
    index, records = files.read()

    def read(record: ImageRecord) -> tuple[ImageRecord, np.ndarray, bool]:
        return record, *read_seed(files.masks, record, index.classes)

    composition = SeedPixels()
    odd: list[str] = []
    title = f"import_seeds {files.split} {files.shard}"
    masks = in_threads(read, records, files.threads)
    with MaskWriter(files.seeds) as seeds, ActivationWriter(files.output, records) as activations:
        for record, seed, unlabelled in progress(masks, total=len(records), description=title):
            seeds.write(record.id, seed)
            activations.write(record.id, activations_of_seed(seed, record.labels))
            composition.add(seed)
            odd += [record.id] if unlabelled else []
    if odd:
        logger.warning(
            "%d of %d seeds show a class that their image's labels do not name, for instance %s: kept in"
            " the seeds, left out of the activations",
            len(odd), len(records), odd[0],
        )  # fmt: skip
    logger.info("seeds: %s", composition)
    composition.write(files.composition)


def main(argv: Sequence[str] | None = None) -> int:
    """Command line of the stage."""
    return run_stage("import_seeds", __doc__, Files, NoSettings, work, argv)


if __name__ == "__main__":
    sys.exit(main())
