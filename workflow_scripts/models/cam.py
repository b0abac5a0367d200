"""The multi-label classifier, its loss, and its class activation maps (paper section 3.1)."""

import torch.nn.functional as F
from torch import Tensor, nn

from workflow_scripts.models.backbones import Backbone


class CamNetwork(nn.Module):
    """Backbone, global average pooling, bias-free 1×1 classifier."""

    def __init__(self, backbone: Backbone, classes: int) -> None:
        super().__init__()
        self.backbone = backbone
        self.classifier = nn.Conv2d(backbone.channels[-1], classes, 1, bias=False)

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
