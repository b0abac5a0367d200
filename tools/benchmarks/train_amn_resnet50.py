"""Training steps of the AMN on a ResNet-50, with Adam."""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from tools.benchmarks.comparison import Comparison, timed_pair
from tools.benchmarks.networks import both_layouts, random_backbone
from tools.benchmarks.scenes import scenes
from workflow_scripts.datasets.transforms import normalise
from workflow_scripts.methods.amn import TrainAmnSettings
from workflow_scripts.models.feature_maps import IMAGENET_MEAN, IMAGENET_STD
from workflow_scripts.models.per_pixel import (
    AmnNetwork,
    per_pixel_loss,
    pixel_counts,
    reduce_labels,
)
from workflow_scripts.training.optimisers import build_optimiser
from workflow_scripts.training.precision import autocast, choose_dtype

CLASSES = 20
CPU = torch.device("cpu")
SETTINGS = TrainAmnSettings()


def _batch(crop: int, batch: int) -> tuple[Tensor, Tensor, Tensor]:
    """Images [B, 3, S, S], labels 0/1 [B, C] and seeds [B, S, S]."""
    chosen = scenes(batch, crop, crop)
    images = np.stack([normalise(scene.image, IMAGENET_MEAN, IMAGENET_STD) for scene in chosen])
    labels = torch.zeros(batch, CLASSES)
    for row, scene in zip(labels, chosen, strict=True):
        row[torch.tensor(scene.labels) - 1] = 1
    seeds = torch.from_numpy(np.stack([scene.mask for scene in chosen]))
    return torch.from_numpy(images), labels, seeds


def _step(
    network: AmnNetwork, images: Tensor, labels: Tensor, seeds: Tensor, dtype: torch.dtype
) -> Callable[[], float]:
    """One training step, as a function that returns its loss."""
    optimiser = build_optimiser(network, SETTINGS.training.optimiser)

    def step() -> float:
        optimiser.zero_grad(set_to_none=True)
        with autocast(dtype, CPU):
            logits = network(images, labels)
            targets = reduce_labels(seeds, *logits.shape[-2:])
            counts = pixel_counts(targets, SETTINGS.balance)
            loss = per_pixel_loss(logits, targets, counts, SETTINGS.label_smoothing)
        loss.backward()
        optimiser.step()
        return loss.item()

    return step


def measure(rounds: int = 3, *, crop: int = 512, batch: int = 4) -> Comparison:
    """Compare steps from the same weights on the same batch, all cores.

    Dropout is off: its random numbers depend on the memory layout, and the losses are compared.
    """
    network = AmnNetwork(
        random_backbone(SETTINGS.backbone),
        CLASSES,
        SETTINGS.dilations,
        dropout=0.0,
        label_conditioning=SETTINGS.label_conditioning,
    )
    plain, fast = (layout.train() for layout in both_layouts(network))
    images, labels, seeds = _batch(crop, batch)
    dtype = choose_dtype("auto", SETTINGS.backbone.bfloat16_pays, CPU)
    reference = _step(plain, images, labels, seeds, torch.float32)
    channels_last = images.contiguous(memory_format=torch.channels_last)
    ours = _step(fast, channels_last, labels, seeds, dtype)
    timed_pair(reference, ours)
    pairs, differences = [], []
    for _ in range(rounds):
        pair, (expected, found) = timed_pair(reference, ours)
        pairs.append(pair)
        differences.append(abs(found - expected) / expected)
    return Comparison(
        pairs,
        "seconds a step",
        max(differences),
        "largest relative difference of the loss",
        f"crop {crop}, batch {batch}; reference: float32, contiguous; "
        f"ours: {str(dtype).removeprefix('torch.')}, channels_last",
    )
