"""Activations of one image by a trained AMN."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from workflow_scripts.models.amn import AmnNetwork
from workflow_scripts.models.backbones import build_backbone
from workflow_scripts.models.inference import (
    add_resized,
    maps_at_scales,
    mixed_normalisation,
    stretch_of,
)
from workflow_scripts.models.trained import describe_trained, described, ready_for_inference
from workflow_scripts.settings.backbone import BackboneSettings
from workflow_scripts.storage.enlargement import strided_size
from workflow_scripts.storage.networks import load_network
from workflow_scripts.storage.stretched import StretchedProbabilities


class Activations(NamedTuple):
    """The two maps that the published method makes of an image.

    Attributes:
        strided: float32 [k, ceil(H/4), ceil(W/4)] in 0…1, which boundaries spread.
        full: Of [k, H, W], which thresholds cut into labels.
    """

    strided: np.ndarray
    full: StretchedProbabilities


def load_amn(
    path: Path, classes: Sequence[str], device: torch.device
) -> tuple[AmnNetwork, dict[str, Any]]:
    """A trained AMN in evaluation mode, dropout off, and its description.

    Raises:
        InputError: `path` holds no AMN, or one of another number of classes.
    """
    description = describe_trained(path, "amn", classes)
    with described(path):
        network = AmnNetwork(
            build_backbone(BackboneSettings(**description["backbone"])),
            len(classes),
            description["dilations"],
            dropout=0.0,
            label_conditioning=description["label_conditioning"],
        )
    load_network(path, network)
    return ready_for_inference(network, device), description


def amn_activations(
    network: AmnNetwork,
    image: np.ndarray,
    labels: Sequence[int],
    classes: int,
    seed: np.ndarray,
    scales: Sequence[float],
    device: torch.device,
) -> Activations:
    """AMN's activations of one image, conditioned on its labels.

    Args:
        network: AMN in evaluation mode.
        image: uint8 [H, W, 3].
        labels: Its class numbers, from 1.
        classes: C.
        seed: The CAM's seed of the image, uint8 [H, W].
        scales: Image scales.
        device: Where to compute.

    Returns:
        One channel a label.
    """
    present = torch.tensor(labels, dtype=torch.long, device=device)
    condition = torch.zeros(classes, device=device)
    condition[present - 1] = 1

    def logits(batch: Tensor) -> Tensor:
        return network(batch, condition.expand(len(batch), -1))

    maps = maps_at_scales(image, scales, network.backbone, logits, device)
    labelled = torch.from_numpy(seed)[None, None].float().to(device)

    def probabilities(height: int, width: int) -> Tensor:
        total = add_resized(maps, height, width)
        return F.softmax(total / (2 * len(scales)), dim=0)[present]

    height, width = image.shape[:2]
    size = strided_size(height, width)
    reduced = F.interpolate(labelled, size=size, mode="nearest-exact")
    strided = mixed_normalisation(probabilities(*size), reduced[0, 0])
    full = probabilities(height, width)
    low, gain = (part.cpu().numpy() for part in stretch_of(full))
    return Activations(
        strided.cpu().numpy(), StretchedProbabilities(full.cpu().numpy(), seed != 0, low, gain)
    )
