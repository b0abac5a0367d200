"""Segmentation networks on backbones, their heads and loss, and the graph that is exported."""

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from workflow_scripts.models.feature_maps import Backbone


class Aspp(nn.Module):
    """Atrous spatial pyramid pooling (DeepLab-v2, section 3.2; AMN's classifier).

    The sum of 3×3 convolutions of several dilations, each with a bias; weights start at N(0, 0.01),
    biases at 0.
    """

    def __init__(self, channels: int, classes: int, dilations: Sequence[int]) -> None:
        super().__init__()
        branches = [
            nn.Conv2d(channels, classes, 3, padding=dilation, dilation=dilation)
            for dilation in dilations
        ]
        for branch in branches:
            assert branch.bias is not None
            nn.init.normal_(branch.weight, std=0.01)
            nn.init.zeros_(branch.bias)
        self.branches = nn.ModuleList(branches)

    def forward(self, features: Tensor) -> Tensor:
        """[B, channels, h, w] → [B, classes, h, w]."""
        first, *rest = self.branches
        logits = first(features)
        for branch in rest:
            logits = logits + branch(features)
        return logits


IGNORE = 255


class SegmentationNetwork(nn.Module):
    """A backbone, and a head on its last feature map."""

    def __init__(self, backbone: Backbone, classifier: nn.Module) -> None:
        super().__init__()
        self.backbone = backbone
        self.classifier = classifier

    def forward(self, images: Tensor) -> Tensor:
        """Logits of background and classes: [B, 3, H, W] → [B, C + 1, h, w]."""
        return self.classifier(self.backbone(images))


class ChannelNorm(nn.LayerNorm):
    """Normalisation over the channels of each pixel: no pixel depends on others, however large the image."""

    def forward(self, features: Tensor) -> Tensor:
        """[B, C, h, w] → [B, C, h, w]."""
        return super().forward(features.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class PyramidDecoder(nn.Module):
    """A backbone, and linear layers over the coarsest levels of its pyramid (SegFormer's decoder)."""

    def __init__(
        self, backbone: Backbone, channels: int, width: int, levels: int, dropout: float
    ) -> None:
        super().__init__()
        self.backbone = backbone
        used = backbone.levels[-levels:]
        self.projections = nn.ModuleList(nn.Conv2d(level.channels, width, 1) for level in used)
        self.fuse = nn.Sequential(
            nn.Conv2d(width * len(used), width, 1, bias=False),
            ChannelNorm(width),
            nn.ReLU(),
            nn.Dropout2d(dropout),
        )
        self.classifier = nn.Conv2d(width, channels, 1)

    def forward(self, images: Tensor) -> Tensor:
        """Logits: [B, 3, H, W] → [B, channels, h, w] at the finest level that is used."""
        if len(self.projections) == 1:
            maps = [self.backbone(images)]
        else:
            maps = self.backbone.pyramid(images)[-len(self.projections) :]
        size = maps[0].shape[-2:]
        projected = [
            F.interpolate(projection(one), size=size, mode="bilinear", align_corners=False)
            for projection, one in zip(self.projections, maps, strict=True)
        ]
        return self.classifier(self.fuse(torch.cat(projected, dim=1)))


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


class ExportableSegmentation(nn.Module):
    """Images in, logits and full-size probabilities out; the labels are the probabilities' argmax.

    The labels are those of `predict` at scale 1 without mirror image and CRF.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, network: Any, normalise: bool) -> None:
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
