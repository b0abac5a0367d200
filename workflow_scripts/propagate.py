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
import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from workflow_scripts.console.progress import progress
from workflow_scripts.console.shards import ShardFiles
from workflow_scripts.console.stage import run_stage
from workflow_scripts.datasets.images import read_image
from workflow_scripts.datasets.index import ImageRecord
from workflow_scripts.datasets.transforms import normalise
from workflow_scripts.models.backbones import build_backbone
from workflow_scripts.models.boundary import STRIDE, BoundaryNetwork, infer_boundaries
from workflow_scripts.refinement.random_walk import propagate
from workflow_scripts.settings.backbone import BackboneSettings
from workflow_scripts.settings.boundary import PropagateSettings
from workflow_scripts.storage.activations import ActivationReader, ActivationWriter
from workflow_scripts.storage.networks import load_network, read_description
from workflow_scripts.training.distributed import choose_device
from workflow_scripts.training.precision import autocast, choose_dtype

# Images among which those of one size are computed together, by device: a walk is 17,664 short
# operations, whatever the number of images.
WINDOW = {"cpu": 8, "cuda": 32}


class Files(ShardFiles):
    """Inputs and outputs."""

    model: Path = Field(description="model.safetensors of train_boundary")
    activations: Path = Field(description="shard of activations of the same images (safetensors)")
    output: Path = Field(description="shard of propagated activations to write (safetensors)")
    device: str = Field("auto", description="auto, cpu or cuda")


def normalise_globally(scores: Tensor, height: int, width: int) -> Tensor:
    """Divide by the largest value after enlargement to full size.

    Args:
        scores: float32 [K, ceil(height / 4), ceil(width / 4)], ≥ 0.
        height: Rows of the image.
        width: Columns of the image.

    Returns:
        The shape of `scores`. Their enlargement lies in 0…1; a peak of one pixel may exceed 1.
    """
    large = F.interpolate(scores[None], scale_factor=STRIDE, mode="bilinear", align_corners=False)
    largest = large[..., :height, :width].max()
    return scores / largest.clamp(min=torch.finfo().tiny)


def by_size(records: Sequence[ImageRecord]) -> list[list[int]]:
    """Positions of the images of each size."""
    groups: dict[tuple[int, int], list[int]] = {}
    for position, record in enumerate(records):
        groups.setdefault((record.height, record.width), []).append(position)
    return list(groups.values())


def propagated(
    network: BoundaryNetwork,
    records: Sequence[ImageRecord],
    activations: Sequence[np.ndarray],
    settings: PropagateSettings,
    dtype: torch.dtype,
    device: torch.device,
) -> list[np.ndarray]:
    """Propagate the activations of images of one size.

    Args:
        network: In evaluation mode.
        records: The images.
        activations: Of each image, float32 [k, h, w], one channel a label.
        settings: The walk.
        dtype: Arithmetic of the network.
        device: Where to compute.

    Returns:
        Of each image float32 [k, h, w], see `normalise_globally`.
    """
    classes = max(map(len, activations))
    if not classes:
        return list(activations)
    backbone = network.backbone
    images = [normalise(read_image(r.path), backbone.mean, backbone.std) for r in records]
    batch = torch.from_numpy(np.stack(images)).to(device)
    with autocast(dtype, device):
        edge, _ = infer_boundaries(network, batch, settings.least_side)
    start = torch.zeros(len(records), classes, *edge.shape[1:])
    for one, activation in zip(start, activations, strict=True):
        one[: len(activation)] = torch.from_numpy(activation)
    scores = propagate(
        start.to(device) ** settings.exponent,
        edge,
        radius=settings.radius,
        beta=settings.beta,
        steps=settings.steps,
    )
    return [
        normalise_globally(one, record.height, record.width)[: len(activation)].cpu().numpy()
        for one, record, activation in zip(scores, records, activations, strict=True)
    ]


def work(files: Files, settings: PropagateSettings) -> None:
    """Write the shard."""
    _, records = files.read()
    description = read_description(files.model, "boundary")
    network = BoundaryNetwork(build_backbone(BackboneSettings(**description["backbone"])))
    load_network(files.model, network)
    device = choose_device(files.device)
    network.eval().to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    dtype = choose_dtype(description["precision"], description["backbone"]["name"], device)
    title = f"propagate {files.split} {files.shard}"
    with ActivationReader(files.activations) as reader:

        def results() -> Iterator[tuple[ImageRecord, np.ndarray]]:
            remaining = iter(records)
            while window := list(islice(remaining, WINDOW[device.type])):
                done: dict[int, np.ndarray] = {}
                for group in by_size(window):
                    chosen = [window[position] for position in group]
                    activations = [reader.read(record.id) for record in chosen]
                    of_group = propagated(network, chosen, activations, settings, dtype, device)
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
