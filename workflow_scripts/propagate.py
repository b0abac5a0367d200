"""Propagate the activations of one shard by a random walk over the boundary network's boundaries.

Activations stop at class boundaries and fill what lies between. They are divided by the largest value of
the image, over all its classes, after enlargement to full size. Writes a shard like infer_cam's; the
background threshold that suits it is another one (the paper's is 0.25).
"""

import sys
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path

import numpy as np
from pydantic import Field

from workflow_scripts.console.progress import progress
from workflow_scripts.console.shards import ShardFiles
from workflow_scripts.console.stage import PluggedFiles, run_stage
from workflow_scripts.datasets.images import read_image
from workflow_scripts.datasets.index import ImageRecord
from workflow_scripts.refinement.random_walk import BoundaryWalk
from workflow_scripts.settings.boundary import PropagateSettings
from workflow_scripts.storage.activations import ActivationReader, ActivationWriter
from workflow_scripts.training.distributed import choose_device

# Images among which those of one size are computed together, by device: a walk is 17,664 short
# operations, whatever the number of images.
WINDOW = {"cpu": 8, "cuda": 32}


class Files(ShardFiles, PluggedFiles):
    """Inputs and outputs."""

    model: Path = Field(description="model.safetensors of train_boundary")
    activations: Path = Field(description="shard of activations of the same images (safetensors)")
    output: Path = Field(description="shard of propagated activations to write (safetensors)")
    device: str = Field("auto", description="auto, cpu or cuda")


def by_size(records: Sequence[ImageRecord]) -> list[list[int]]:
    """Positions of the images of each size."""
    groups: dict[tuple[int, int], list[int]] = {}
    for position, record in enumerate(records):
        groups.setdefault((record.height, record.width), []).append(position)
    return list(groups.values())


def work(files: Files, settings: PropagateSettings) -> None:
    """Write the shard."""
    _, records = files.read()
    device = choose_device(files.device)
    walk = BoundaryWalk(files.model, settings, device)
    title = f"propagate {files.split} {files.shard}"
    with ActivationReader(files.activations) as reader:

        def results() -> Iterator[tuple[ImageRecord, np.ndarray]]:
            remaining = iter(records)
            while window := list(islice(remaining, WINDOW[device.type])):
                done: dict[int, np.ndarray] = {}
                for group in by_size(window):
                    chosen = [window[position] for position in group]
                    images = [read_image(record.path) for record in chosen]
                    activations = [
                        reader.read_strided(record.id, record.height, record.width)
                        for record in chosen
                    ]
                    of_group = walk.propagated(images, activations)
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
