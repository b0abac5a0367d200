"""Class activation maps of one image by a trained classifier."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from workflow_scripts.models.backbones import build_backbone
from workflow_scripts.models.cam import CamNetwork
from workflow_scripts.models.inference import maps_at_scales
from workflow_scripts.models.trained import describe_trained, described, ready_for_inference
from workflow_scripts.settings.backbone import BackboneSettings
from workflow_scripts.storage.activation_maps import CamMaps
from workflow_scripts.storage.networks import load_network


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
    scales: Sequence[float],
    device: torch.device,
) -> CamMaps:
    """Class activation maps of one image, those of mirror images added.

    Args:
        network: The classifier in evaluation mode.
        image: uint8 [H, W, 3].
        labels: Its class numbers, from 1.
        scales: Image scales.
        device: Where to compute.

    Returns:
        One channel a label.
    """
    present = torch.tensor(labels, dtype=torch.long, device=device) - 1

    def present_maps(batch: Tensor) -> Tensor:
        return network.activations(batch)[:, present]

    maps = maps_at_scales(image, scales, network.backbone, present_maps, device)
    height, width = image.shape[:2]
    return CamMaps(tuple(one[0].cpu().numpy() for one in maps), height, width)
