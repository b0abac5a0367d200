"""AMN: the activation manipulation network ("Threshold Matters in WSSS", Lee et al., CVPR 2022)."""

from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field

from workflow_scripts.backbones.resnet import ResNet
from workflow_scripts.doors.backbone import BackboneSettings
from workflow_scripts.doors.method import (
    ContinuedSettings,
    LabelledImage,
    Method,
    Reads,
    TrainSettings,
)
from workflow_scripts.settings.refinement import SeedSettings
from workflow_scripts.settings.training import (
    AugmentationSettings,
    OptimiserSettings,
    TrainingSettings,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import torch
    from torch import Tensor, nn

    from workflow_scripts.models.feature_maps import Backbone
    from workflow_scripts.models.per_pixel import AmnNetwork
    from workflow_scripts.storage.activation_maps import AmnMaps


class TrainAmnSettings(TrainSettings):
    """Per-pixel classification on seeds, conditioned on the image's labels; the paper's defaults."""

    backbone: BackboneSettings = ResNet(name="resnet50", frozen_stages=1)
    dilations: tuple[int, ...] = Field(
        (6, 12, 18, 24), min_length=1, description="dilations of the head's parallel convolutions"
    )
    dropout: float = Field(0.1, ge=0, lt=1, description="dropout before the head, in training")
    label_conditioning: bool = Field(
        True, description="scale the features by a linear function of the image's labels"
    )
    balance: bool = Field(
        True, description="average background and foreground pixels apart, then their means"
    )
    label_smoothing: float = Field(
        0.4, ge=0, lt=1, description="probability given to the other classes, together (epsilon)"
    )
    training: TrainingSettings = TrainingSettings(
        optimiser=OptimiserSettings(
            name="adam", learning_rate=5e-6, head_factor=20.0, schedule="constant"
        ),
        augmentation=AugmentationSettings(resize="scale", resize_range=(0.5, 1.5)),
    )


class Amn(Method):
    """Classifies the pixels of another method's seeds, with features scaled by the image's labels."""

    name: ClassVar[str] = "amn"
    reads: ClassVar[Reads] = Reads.SEEDS
    seeds: ClassVar[SeedSettings] = SeedSettings(
        foreground_threshold=0.45, background_threshold=0.15
    )
    Train: ClassVar[type[TrainSettings | ContinuedSettings]] = TrainAmnSettings

    @classmethod
    def maps(cls) -> "type[AmnMaps]":
        """Logits of each scale and the seed's region, of which readers make probabilities."""
        from workflow_scripts.storage.activation_maps import AmnMaps

        return AmnMaps

    def build(self, backbone: "Backbone", classes: int) -> "AmnNetwork":
        """See `Method`."""
        from workflow_scripts.models.per_pixel import AmnNetwork

        settings = self.settings
        return AmnNetwork(
            backbone, classes, settings.dilations, settings.dropout, settings.label_conditioning
        )

    def _labels(self, network: Any, batch: "Mapping[str, Tensor]") -> "Tensor":
        """Seeds at the size of the logits."""
        from workflow_scripts.models.per_pixel import reduce_labels

        return reduce_labels(batch["mask"], *network.backbone.grid(*batch["mask"].shape[1:]))

    def counts(self, network: "nn.Module", batch: "Mapping[str, Tensor]") -> "Tensor":
        """Pixels that each side's mean is over."""
        from workflow_scripts.models.per_pixel import pixel_counts

        return pixel_counts(self._labels(network, batch), self.settings.balance)

    def loss(
        self, network: "nn.Module", batch: "Mapping[str, Tensor]", counts: "Tensor"
    ) -> "Tensor":
        """The paper's loss on the logits' grid."""
        from workflow_scripts.models.per_pixel import per_pixel_loss, reduce_labels

        logits = network(batch["image"], batch["labels"])
        labels = reduce_labels(batch["mask"], *logits.shape[-2:])
        return per_pixel_loss(logits, labels, counts, self.settings.label_smoothing)

    def activations(
        self, network: Any, image: LabelledImage, infer: Any, device: "torch.device"
    ) -> "AmnMaps":
        """See `Method`."""
        return self.activations_together(network, [image], infer, device)[0]

    def activations_together(
        self, network: Any, images: "Sequence[LabelledImage]", infer: Any, device: "torch.device"
    ) -> "list[AmnMaps]":
        """See `Method`."""
        from workflow_scripts.models.per_pixel import amn_activations

        return amn_activations(network, images, infer.scales, device)
