"""The segmentation network: DeepLab-v2 (Chen et al., 2017) on any backbone."""

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn

from workflow_scripts.models.aspp import Aspp
from workflow_scripts.models.backbones import Backbone

IGNORE = 255


class DeepLab(nn.Module):
    """Backbone and ASPP."""

    def __init__(self, backbone: Backbone, classes: int, dilations: Sequence[int]) -> None:
        super().__init__()
        self.backbone = backbone
        self.classifier = Aspp(backbone.channels[-1], classes + 1, dilations)

    def forward(self, images: Tensor) -> Tensor:
        """Logits of background and classes: [B, 3, H, W] → [B, C + 1, h, w]."""
        return self.classifier(self.backbone(images))


def segmentation_loss(logits: Tensor, labels: Tensor, count: Tensor) -> Tensor:
    """Cross-entropy at the labels' size, summed and divided by the pixels of the whole batch.

    Args:
        logits: [B, C + 1, h, w].
        labels: [B, H, W], 255 is ignored.
        count: Valid pixels of the whole batch, of which `logits` may be a part.
    """
    enlarged = F.interpolate(
        logits.float(), size=labels.shape[-2:], mode="bilinear", align_corners=False
    )
    total = F.cross_entropy(enlarged, labels, ignore_index=IGNORE, reduction="sum")
    return total / count.clamp(min=1)
