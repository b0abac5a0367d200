"""Class activation maps of one image by a trained classifier."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from workflow_scripts.models.backbones import build_backbone
from workflow_scripts.models.cam import CamNetwork
from workflow_scripts.models.inference import normalise_by_maximum, sum_over_scales
from workflow_scripts.models.trained import describe_trained, described, ready_for_inference
from workflow_scripts.settings.backbone import BackboneSettings
from workflow_scripts.storage.networks import load_network

# The published code resizes CAMs to the image's size rounded up to 16 pixels: 4 cells of stride 4.
CELLS = 4


def load_cam(
    path: Path, classes: Sequence[str], device: torch.device
) -> tuple[CamNetwork, dict[str, Any]]:
    """A trained classifier in evaluation mode, and its description.

    Raises:
        InputError: `path` holds no classifier, or one of another number of classes.
    """
    description = describe_trained(path, "cam", classes)
    with described(path):
        backbone = build_backbone(BackboneSettings(**description["backbone"]))
    network = CamNetwork(backbone, len(classes))
    load_network(path, network)
    return ready_for_inference(network, device), description


def cam_activations(
    network: CamNetwork,
    image: np.ndarray,
    labels: Sequence[int],
    size: tuple[int, int],
    scales: Sequence[float],
    device: torch.device,
) -> Tensor:
    """Class activation maps of one image.

    Several scales, each with its mirror image, are added; each class is divided by its maximum.

    Args:
        network: The classifier in evaluation mode.
        image: uint8 [H, W, 3].
        labels: Its class numbers, from 1.
        size: Height and width of the result.
        scales: Image scales.
        device: Where to compute.

    Returns:
        float32 [len(labels), *size] in 0…1.
    """
    present = torch.tensor(labels, dtype=torch.long, device=device) - 1
    maps = sum_over_scales(
        image, scales, size, network.backbone, network.activations, device, multiple=CELLS
    )
    return normalise_by_maximum(maps[present])
