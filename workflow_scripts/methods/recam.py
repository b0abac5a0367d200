"""ReCAM: class re-activation maps (Chen et al., "Class Re-Activation Maps for Weakly-Supervised Semantic
Segmentation", CVPR 2022).

A classifier trained by binary cross-entropy activates pixels of several classes at once. ReCAM goes on from
it: its maps weight the features, a map for each label of the image, and a second classifier learns by softmax
cross-entropy which label each of these features is of. Both classifiers' weights, multiplied, make the maps.
Formulas and numbers are those of the published code, but for the sign below; its loss of an image without
labels is 0 here too.

The product of two weights forgets their sign: one that speaks against a class in both classifiers counts for
it. The published code has a ResNet, whose features are never negative. Where they may be, as EfficientNet's
or a transformer's, the maps that come of it are of half of CAM's quality (docs/results.md). There the product
keeps the sign where both classifiers agree in it, and is 0 where they do not.
"""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, ClassVar, Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from workflow_scripts.doors.method import (
    ContinuedSettings,
    InferSettings,
    LabelledImage,
    Method,
    Reads,
)
from workflow_scripts.models.classification import CamNetwork, cam_activations, multi_label_loss
from workflow_scripts.models.feature_maps import Backbone
from workflow_scripts.settings.refinement import SeedSettings
from workflow_scripts.settings.training import (
    AugmentationSettings,
    OptimiserSettings,
    TrainingSettings,
)
from workflow_scripts.storage.activation_maps import CamMaps

EPSILON = 1e-5
Weights = Literal["auto", "product", "agreeing"]


class TrainRecamSettings(ContinuedSettings):
    """ReCAM on a trained classifier, whose backbone it takes over; defaults are the published ones."""

    weight: float = Field(0.85, ge=0, description="weight of the softmax cross-entropy in the loss")
    training: TrainingSettings = TrainingSettings(
        epochs=4,
        optimiser=OptimiserSettings(learning_rate=5e-5, head_factor=10.0),
        augmentation=AugmentationSettings(resize="long_side", resize_range=(320, 640)),
    )


class InferRecamSettings(InferSettings):
    """Scales of the activations, and the weights that make them."""

    weights: Weights = Field(
        "auto",
        description="`product`: of both classifiers' weights, as published; `agreeing`: with their sign "
        "where it is the same, 0 where it is not; `auto`: `product` for features that are never negative (a "
        "ResNet's), `agreeing` for others",
    )


class RecamNetwork(CamNetwork):
    """The classifier of CAM, and a second one of features that its maps weight.

    Attributes:
        at_base_rate: New layers that learn at the backbone's rate: the first classifier is trained already.
    """

    at_base_rate = ("classifier.",)

    def __init__(self, backbone: Backbone, classes: int) -> None:
        super().__init__(backbone, classes)
        self.reclassifier = nn.Conv2d(backbone.channels, classes, 1, bias=False)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:  # type: ignore[override]
        """Logits of both classifiers.

        Args:
            images: [B, 3, H, W].

        Returns:
            [B, C], and [B, C, C]: of the features that each class's map weights.
        """
        features = self.backbone(images)
        logits = self.classifier(features.mean(dim=(2, 3), keepdim=True)).flatten(1)
        maps = F.relu(F.conv2d(features, self.classifier.weight))
        maps = maps / (maps.amax(dim=(2, 3), keepdim=True) + EPSILON)
        pixels = maps.shape[-2] * maps.shape[-1]
        weighted = torch.einsum("bchw,bdhw->bcd", maps, features) / pixels
        return logits, F.linear(weighted, self.reclassifier.weight[:, :, 0, 0])

    def activations(self, images: Tensor, weights: Weights = "auto") -> Tensor:
        """Class re-activation maps, not normalised: [B, 3, H, W] → [B, C, h, w], ≥ 0.

        Args:
            images: Normalised.
            weights: See `InferRecamSettings`.
        """
        features = self.backbone(images)
        product = self.reclassifier.weight * self.classifier.weight
        agreeing = product.clamp_min(0) * self.classifier.weight.sign()
        if weights == "agreeing":
            product = agreeing
        elif weights == "auto":
            # Chosen on the device: to look at the features would wait for it.
            product = torch.where((features < 0).any(), agreeing, product)
        return F.relu(F.conv2d(features, product))


def reactivation_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """Softmax cross-entropy of the features of each label, mean over an image's labels.

    Args:
        logits: [B, C, C], see `RecamNetwork.forward`.
        labels: 0/1 [B, C].

    Returns:
        [B], 0 for an image without labels.
    """
    log_probability = F.log_softmax(logits.float(), dim=2).diagonal(dim1=1, dim2=2)
    return -(log_probability * labels).sum(dim=1) / labels.sum(dim=1).clamp(min=1)


class Recam(Method):
    """Goes on from CAM's classifier; its maps come from both classifiers."""

    name: ClassVar[str] = "recam"
    title: ClassVar[str] = "ReCAM"
    reads: ClassVar[Reads] = Reads.NETWORK
    seeds: ClassVar[SeedSettings] = SeedSettings(
        foreground_threshold=0.30, background_threshold=0.05
    )
    Train: ClassVar[type[TrainRecamSettings]] = TrainRecamSettings
    Infer: ClassVar[type[InferRecamSettings]] = InferRecamSettings

    @classmethod
    def maps(cls) -> type[CamMaps]:
        """Maps of each scale, as CAM's."""
        return CamMaps

    def build(self, backbone: Backbone, classes: int) -> RecamNetwork:
        """See `Method`."""
        return RecamNetwork(backbone, classes)

    def loss(self, network: nn.Module, batch: Mapping[str, Tensor], counts: Tensor) -> Tensor:
        """Both losses, means over the images of the batch."""
        logits, of_features = network(batch["image"])
        losses = multi_label_loss(logits, batch["labels"])
        losses = losses + self.settings.weight * reactivation_loss(of_features, batch["labels"])
        return losses.sum() / counts[0]

    def image_logits(self, network: Any, images: Tensor) -> Tensor:
        """Those of the first classifier; the second one tells labels apart that are known."""
        logits: Tensor = network(images)[0]
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
        maps_of = partial(network.activations, weights=infer.weights)
        return cam_activations(network, images, infer.scales, device, maps_of)
