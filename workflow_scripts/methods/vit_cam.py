"""CAM on the tokens of a transformer, spread over its attention.

A linear classifier of each patch's token, whose logits are pooled over the image: by their mean (as CAM),
their maximum (ViT-PCM, Rossetti et al., ECCV 2022), or log-sum-exp in between (Pinheiro and Collobert, CVPR
2015). Its maps are spread over the affinity of the patches (CLIP-ES, Lin et al., CVPR 2023, see
`models/attention_affinity.py`). Any backbone serves: without attention, likeness of features takes its
place.
"""

from collections.abc import Callable, Mapping, Sequence
from itertools import islice
from typing import Any, ClassVar, Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from workflow_scripts.backbones.timm_transformer import TimmTransformer
from workflow_scripts.doors.backbone import BackboneSettings
from workflow_scripts.doors.method import InferSettings, LabelledImage, Method, TrainSettings
from workflow_scripts.models.attention_affinity import affinity, feature_likeness, spread
from workflow_scripts.models.classification import multi_label_loss
from workflow_scripts.models.feature_maps import Backbone
from workflow_scripts.models.multi_scale import maps_at_scales
from workflow_scripts.models.views import downloaded
from workflow_scripts.settings.affinity import AffinitySettings
from workflow_scripts.settings.refinement import SeedSettings
from workflow_scripts.settings.training import (
    AugmentationSettings,
    OptimiserSettings,
    Scale,
    TrainingSettings,
)
from workflow_scripts.storage.activation_maps import CamMaps


class TrainVitCamSettings(TrainSettings):
    """A linear classifier of the patches of a transformer that does not learn itself."""

    backbone: BackboneSettings = TimmTransformer(
        name="vit_small_patch14_dinov2.lvd142m", frozen_blocks="all"
    )
    pooling: Literal["mean", "max", "lse"] = Field(
        "mean",
        description="how the logits of the patches become that of the image; lse: log-sum-exp",
    )
    sharpness: float = Field(
        5.0, gt=0, description="of `lse`: 0 would be the mean, infinity the maximum"
    )
    training: TrainingSettings = TrainingSettings(
        epochs=20,
        optimiser=OptimiserSettings(
            name="adamw",
            learning_rate=1e-3,
            head_factor=1.0,
            weight_decay=1e-2,
            schedule="one_cycle",
        ),
        augmentation=AugmentationSettings(resize="scale", resize_range=(0.8, 1.3), crop=448),
    )


class InferVitCamSettings(InferSettings):
    """Scales of the activations, and what they are spread over."""

    scales: tuple[Scale, ...] = Field(
        (1.0,), min_length=1, description="image scales, each with its mirror image"
    )
    affinity: AffinitySettings = AffinitySettings()


class TokenClassifier(nn.Module):
    """A backbone, a linear classifier of each cell, and pooling of its logits."""

    def __init__(self, backbone: Backbone, classes: int, pooling: str, sharpness: float) -> None:
        super().__init__()
        self.backbone = backbone
        self.classifier = nn.Conv2d(backbone.channels, classes, 1, bias=False)
        self.pooling, self.sharpness = pooling, sharpness

    def forward(self, images: Tensor) -> Tensor:
        """Logits of the labels: [B, 3, H, W] → [B, C]."""
        return pooled(self.classifier(self.backbone(images)), self.pooling, self.sharpness)


def pooled(logits: Tensor, pooling: str, sharpness: float) -> Tensor:
    """Logits of an image from those of its cells.

    Args:
        logits: [B, C, h, w].
        pooling: `mean`, `max`, or `lse`: log(mean(exp(s · logits))) / s.
        sharpness: s.

    Returns:
        float32 [B, C].
    """
    cells = logits.flatten(2).float()
    if pooling == "mean":
        return cells.mean(dim=2)
    if pooling == "max":
        return cells.amax(dim=2)
    count = torch.tensor(float(cells.shape[2]), device=cells.device)
    return (torch.logsumexp(sharpness * cells, dim=2) - count.log()) / sharpness


class VitCam(Method):
    """Class activation maps of patches, spread over the attention of a transformer."""

    name: ClassVar[str] = "vit_cam"
    title: ClassVar[str] = "ViT-CAM"
    seeds: ClassVar[SeedSettings] = SeedSettings(
        foreground_threshold=0.45, background_threshold=0.15
    )
    Train: ClassVar[type[TrainVitCamSettings]] = TrainVitCamSettings
    Infer: ClassVar[type[InferVitCamSettings]] = InferVitCamSettings

    @classmethod
    def maps(cls) -> type[CamMaps]:
        """Maps of each scale, as CAM's."""
        return CamMaps

    def build(self, backbone: Backbone, classes: int) -> TokenClassifier:
        """See `Method`."""
        return TokenClassifier(backbone, classes, self.settings.pooling, self.settings.sharpness)

    def loss(self, network: nn.Module, batch: Mapping[str, Tensor], counts: Tensor) -> Tensor:
        """Multi-label soft-margin loss, mean over the images of the batch."""
        return multi_label_loss(network(batch["image"]), batch["labels"]).sum() / counts[0]

    def image_logits(self, network: Any, images: Tensor) -> Tensor:
        """See `Method`."""
        logits: Tensor = network(images)
        return logits

    def activations(
        self, network: Any, image: LabelledImage, infer: Any, device: torch.device
    ) -> CamMaps:
        """See `Method`."""
        return self.activations_together(network, [image], infer, device)[0]

    def activations_together(
        self, network: Any, images: Sequence[LabelledImage], infer: Any, device: torch.device
    ) -> list[CamMaps]:
        """See `Method`."""

        def maps_of(views: Tensor, classes: Tensor) -> Tensor:
            features, attention = attended(network.backbone, views, infer.affinity)
            # Classes that fill up a row are computed, and left out later.
            shown = torch.arange(len(views), device=device)[:, None], classes.clamp_min(0)
            maps = F.relu(network.classifier(features))[shown]
            return (
                maps if attention is None else spread(maps, affinity(attention), infer.affinity.box)
            )

        rows = label_rows(images, device)
        return spread_maps(images, infer.scales, network.backbone, maps_of, rows, device)


def label_rows(images: Sequence[LabelledImage], device: torch.device) -> Tensor:
    """Classes that images show, from 0, int64 [B, K]: a row an image, filled up by −1."""
    most = max(len(image.labels) for image in images)
    rows = [
        [label - 1 for label in image.labels] + [-1] * (most - len(image.labels))
        for image in images
    ]
    return torch.tensor(rows, dtype=torch.long, device=device)


def attended(
    backbone: Backbone, views: Tensor, settings: AffinitySettings
) -> tuple[Tensor, Tensor | None]:
    """Feature map of views [B, 3, H, W], and what maps are spread over, [B, n, n]; None for nothing."""
    if settings.source == "none":
        return backbone(views), None
    if settings.source == "attention":
        features, attention = backbone.attended(views, settings.blocks)
    else:
        features, attention = backbone(views), None
    if attention is None:
        attention = feature_likeness(features, settings.temperature)
    return features, attention


def spread_maps(
    images: Sequence[LabelledImage],
    scales: tuple[float, ...],
    backbone: Backbone,
    maps_of: Callable[[Tensor, Tensor], Tensor],
    rows: Tensor,
    device: torch.device,
) -> list[CamMaps]:
    """Maps of the views of images of one size, those of mirror images added, in the form that is stored.

    Args:
        images: At least one.
        scales: Image scales.
        backbone: See `maps_at_scales`.
        maps_of: From normalised views [V, 3, H, W] and their rows to maps [V, K, h, w], whose first are those
            of the image's labels.
        rows: What `maps_of` takes of each image, [B, …].
        device: Where to compute.
    """
    pixels = [image.pixels for image in images]
    maps = maps_at_scales(pixels, scales, backbone, maps_of, device, given=rows)
    shown = [one[i, : len(image.labels)] for i, image in enumerate(images) for one in maps]
    arrays = iter(downloaded(shown))
    # A view of whole patches covers the image to its borders: no cell reaches beyond.
    height, width = pixels[0].shape[:2]
    cell = 1 if backbone.pads else backbone.stride
    return [CamMaps(tuple(islice(arrays, len(maps))), height, width, cell) for _ in images]
