"""The multi-label classifier, its loss, and its class activation maps (paper section 3.1)."""

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from workflow_scripts.models.feature_maps import Backbone
from workflow_scripts.models.multi_scale import maps_at_scales
from workflow_scripts.storage.activation_maps import CamMaps


class CamNetwork(nn.Module):
    """Backbone, global average pooling, bias-free 1×1 classifier."""

    def __init__(self, backbone: Backbone, classes: int) -> None:
        super().__init__()
        self.backbone = backbone
        self.classifier = nn.Conv2d(backbone.channels, classes, 1, bias=False)

    def forward(self, images: Tensor) -> Tensor:
        """Logits of the labels: [B, 3, H, W] → [B, C]."""
        features = self.backbone(images)
        return self.classifier(features.mean(dim=(2, 3), keepdim=True)).flatten(1)

    def activations(self, images: Tensor) -> Tensor:
        """Class activation maps, not normalised: [B, 3, H, W] → [B, C, h, w], ≥ 0."""
        return F.relu(self.classifier(self.backbone(images)))


def multi_label_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """Multi-label soft-margin loss of each image, mean over the classes.

    Args:
        logits: [B, C].
        labels: 0/1 [B, C].

    Returns:
        [B].
    """
    return F.binary_cross_entropy_with_logits(logits.float(), labels, reduction="none").mean(1)


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
    cells = tuple(one[0].cpu().numpy() for one in maps)
    # A view of whole patches covers the image to its borders: no cell reaches beyond.
    cell = 1 if network.backbone.pads else network.backbone.stride
    return CamMaps(cells, height, width, cell)
