"""Propagate the activations of one shard by a random walk over the boundary network's boundaries.

Activations stop at class boundaries and fill what lies between. They are divided by the largest value of
the image, over all its classes, after enlargement to full size. Writes a shard like infer_cam's; the
background threshold that suits it is another one (the paper's is 0.25).
"""

import logging
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from pydantic import Field

from workflow_scripts.console.progress import progress
from workflow_scripts.console.shards import ShardFiles
from workflow_scripts.console.stage import PluggedFiles, run_stage
from workflow_scripts.datasets.images import read_image
from workflow_scripts.datasets.index import ImageRecord
from workflow_scripts.refinement.random_walk import BoundaryWalk
from workflow_scripts.settings.refinement import PropagateSettings
from workflow_scripts.storage.activations import ActivationReader, ActivationWriter
from workflow_scripts.training.distributed import choose_device

logger = logging.getLogger(__name__)

# Pixels of the images, as the network sees them, among which those of one size are computed together, by
# device: a walk is 17,664 short operations, whatever the number of images.
PIXELS = {"cpu": 8 * 512 * 512, "cuda": 32 * 512 * 512}


class Files(ShardFiles, PluggedFiles):
    """Inputs and outputs."""

    model: Path = Field(description="model.safetensors of train_boundary")
    activations: Path = Field(description="shard of activations of the same images (safetensors)")
    output: Path = Field(description="shard of propagated activations to write (safetensors)")
    device: str = Field("auto", description="auto, cpu or cuda")


def windows(
    records: Iterable[ImageRecord], most: int, least_side: int
) -> Iterator[list[ImageRecord]]:
    """Cut a row of images into parts of at most `most` pixels, each at least one image.

    Args:
        records: Images.
        most: Pixels, counted as the network sees them.
        least_side: To which smaller sides are padded.
    """
    window: list[ImageRecord] = []
    pixels = 0
    for record in records:
        more = max(record.height, least_side) * max(record.width, least_side)
        if window and pixels + more > most:
            yield window
            window, pixels = [], 0
        window.append(record)
        pixels += more
    if window:
        yield window


def by_size(records: Sequence[ImageRecord]) -> list[list[int]]:
    """Positions of the images of each size."""
    groups: dict[tuple[int, int], list[int]] = {}
    for position, record in enumerate(records):
        groups.setdefault((record.height, record.width), []).append(position)
    return list(groups.values())


def propagated(
    walk: BoundaryWalk, images: Sequence[np.ndarray], activations: Sequence[np.ndarray]
) -> list[np.ndarray]:
    """What `BoundaryWalk.propagated` gives; in halves where the GPU's memory does not suffice."""
    try:
        return walk.propagated(images, activations)
    except torch.cuda.OutOfMemoryError:
        if len(images) == 1:
            raise
    # Outside of the handler: until it ends, the error holds what filled the memory.
    torch.cuda.empty_cache()
    half = len(images) // 2
    logger.warning("the GPU's memory does not suffice for %d images: in two halves", len(images))
    return [
        *propagated(walk, images[:half], activations[:half]),
        *propagated(walk, images[half:], activations[half:]),
    ]


def work(files: Files, settings: PropagateSettings) -> None:
    """Write the shard."""
    _, records = files.read()
    device = choose_device(files.device)
    walk = BoundaryWalk(files.model, settings, device)
    title = f"propagate {files.split} {files.shard}"
    with ActivationReader(files.activations) as reader:

        def results() -> Iterator[tuple[ImageRecord, np.ndarray]]:
            for window in windows(records, PIXELS[device.type], settings.least_side):
                done: dict[int, np.ndarray] = {}
                for group in by_size(window):
                    chosen = [window[position] for position in group]
                    images = [read_image(record.path) for record in chosen]
                    activations = [
                        reader.read_strided(record.id, record.height, record.width)
                        for record in chosen
                    ]
                    of_group = propagated(walk, images, activations)
                    done.update(zip(group, of_group, strict=True))
                yield from ((record, done[i]) for i, record in enumerate(window))

        with ActivationWriter(files.output, records, peaks=True) as writer:
            for record, activation in progress(results(), total=len(records), description=title):
                writer.write(record.id, activation)


def main(argv: Sequence[str] | None = None) -> int:
    """Command line of the stage."""
    return run_stage("propagate", __doc__, Files, PropagateSettings, work, argv)


if __name__ == "__main__":
    sys.exit(main())
