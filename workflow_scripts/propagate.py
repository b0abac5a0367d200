"""Propagate the activations of one shard by a random walk over the boundary network's boundaries.

Activations stop at class boundaries and fill what lies between. They are divided by the largest value of
the image, over all its classes, after enlargement to full size. Writes a shard like infer_cam's; the
background threshold that suits it is another one (the paper's is 0.25).
"""

import math
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from pydantic import Field

from workflow_scripts.console.progress import progress
from workflow_scripts.console.shards import ShardFiles
from workflow_scripts.console.stage import PluggedFiles, run_stage
from workflow_scripts.datasets.index import ImageRecord
from workflow_scripts.datasets.parallel import in_threads
from workflow_scripts.refinement.random_walk import BoundaryWalk
from workflow_scripts.settings.refinement import PropagateSettings
from workflow_scripts.storage.activations import ActivationReader, ActivationWriter
from workflow_scripts.training.distributed import choose_device
from workflow_scripts.training.inference_pipeline import (
    Kind,
    bytes_of,
    image_reader,
    in_batches,
    written_behind,
)

# Pixels of the images, as the network sees them, among which those of one size are computed together, by
# device: a walk is 17,664 short operations, whatever the number of images.
PIXELS = {"cpu": 8 * 512 * 512, "cuda": 32 * 512 * 512}


class Files(ShardFiles, PluggedFiles):
    """Inputs and outputs."""

    model: Path = Field(description="model.safetensors of train_boundary")
    activations: Path = Field(description="shard of activations of the same images (safetensors)")
    output: Path = Field(description="shard of propagated activations to write (safetensors)")
    device: str = Field("auto", description="auto, cpu or cuda")


class Loaded(NamedTuple):
    """An image with its activation."""

    record: ImageRecord
    image: np.ndarray
    activation: np.ndarray


def work(files: Files, settings: PropagateSettings) -> None:
    """Write the shard."""
    _, records = files.read()
    device = choose_device(files.device)
    walk = BoundaryWalk(files.model, settings, device)
    read_image = image_reader(device)

    def kind(loaded: Loaded) -> Kind:
        sides = loaded.image.shape[:2]
        pixels = math.prod(max(side, settings.least_side) for side in sides)
        return Kind(sides, max(1, PIXELS[device.type] // pixels))

    def together(some: list[Loaded]) -> list[tuple[ImageRecord, np.ndarray]]:
        found = walk.propagated([one.image for one in some], [one.activation for one in some])
        return [(one.record, of_one) for one, of_one in zip(some, found, strict=True)]

    with ActivationReader(files.activations) as reader:

        def read(record: ImageRecord) -> Loaded:
            activation = reader.read_strided(record.id, record.height, record.width)
            return Loaded(record, read_image(record.path), activation)

        loaded = in_threads(read, records, files.threads, bytes_of)
        results = in_batches(loaded, together, kind, lambda one: bytes_of(one.record))
        title = f"propagate {files.split} {files.shard}"
        with (
            ActivationWriter(files.output, records, peaks=True) as writer,
            written_behind(writer.write) as write,
        ):
            for record, activation in progress(results, total=len(records), description=title):
                write(record.id, activation)


def main(argv: Sequence[str] | None = None) -> int:
    """Command line of the stage."""
    return run_stage("propagate", __doc__, Files, PropagateSettings, work, argv)


if __name__ == "__main__":
    sys.exit(main())
