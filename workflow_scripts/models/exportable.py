"""A segmentation network with its pre- and post-processing, as one graph."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from workflow_scripts.models.deeplab import DeepLab


class ExportableSegmentation(nn.Module):
    """Images in, logits and full-size probabilities out; the labels are the probabilities' argmax.

    The labels are those of `predict` at scale 1 without mirror image and CRF.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, network: DeepLab, normalise: bool) -> None:
        super().__init__()
        self.network = network
        self.normalise = normalise
        backbone = network.backbone
        self.register_buffer("mean", 255 * torch.tensor(backbone.mean).view(1, 3, 1, 1))
        self.register_buffer("std", 255 * torch.tensor(backbone.std).view(1, 3, 1, 1))

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Logits and probabilities of background and classes.

        Args:
            images: float32 [B, 3, H, W], RGB 0…255, or normalised if `normalise` is off.

        Returns:
            [B, C + 1, h, w] at the network's stride, and [B, C + 1, H, W].
        """
        if self.normalise:
            images = (images - self.mean) / self.std
        logits = self.network(images)
        probabilities = F.interpolate(
            F.softmax(logits, dim=1), size=images.shape[-2:], mode="bilinear", align_corners=False
        )
        return logits, probabilities
