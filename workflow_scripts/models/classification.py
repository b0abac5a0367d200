"""The multi-label classifier, its loss, and its class activation maps (paper section 3.1)."""

from collections.abc import Callable, Sequence
from itertools import islice

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from workflow_scripts.doors.method import LabelledImage
from workflow_scripts.models.feature_maps import Backbone
from workflow_scripts.models.multi_scale import maps_at_scales
from workflow_scripts.models.views import downloaded
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
    images: Sequence[LabelledImage],
    scales: Sequence[float],
    device: torch.device,
    maps_of: Callable[[Tensor], Tensor] | None = None,
) -> list[CamMaps]:
    """Class activation maps of images of one size, those of mirror images added.

    Args:
        network: The classifier in evaluation mode.
        images: At least one.
        scales: Image scales.
        device: Where to compute.
        maps_of: From normalised views [V, 3, H, W] to maps [V, C, h, w]; the network's own if left out.

    Returns:
        Of each image, one channel a label.
    """
    pixels = [image.pixels for image in images]
    # Before the network has something to do, for which the copies would wait.
    present = [torch.tensor(image.labels, device=device).long() - 1 for image in images]
    maps_of = maps_of or network.activations
    maps = maps_at_scales(pixels, scales, network.backbone, maps_of, device)
    shown = [one[number, some] for number, some in enumerate(present) for one in maps]
    arrays = iter(downloaded(shown))
    height, width = pixels[0].shape[:2]
    # A view of whole patches covers the image to its borders: no cell reaches beyond.
    cell = 1 if network.backbone.pads else network.backbone.stride
    return [CamMaps(tuple(islice(arrays, len(maps))), height, width, cell) for _ in images]
