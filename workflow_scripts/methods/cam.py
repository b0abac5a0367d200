"""CAM: class activation maps of a multi-label classifier (Zhou et al., CVPR 2016), the baseline."""

from typing import TYPE_CHECKING, Any, ClassVar

from workflow_scripts.backbones.resnet import ResNet
from workflow_scripts.doors.backbone import BackboneSettings
from workflow_scripts.doors.method import ContinuedSettings, LabelledImage, Method, TrainSettings
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

    from workflow_scripts.models.classification import CamNetwork
    from workflow_scripts.models.feature_maps import Backbone
    from workflow_scripts.storage.activation_maps import CamMaps


class TrainCamSettings(TrainSettings):
    """The multi-label classifier; defaults are the paper's."""

    backbone: BackboneSettings = ResNet(name="resnet50", frozen_stages=3)
    training: TrainingSettings = TrainingSettings(
        optimiser=OptimiserSettings(learning_rate=0.1),
        augmentation=AugmentationSettings(resize="long_side", resize_range=(320, 640)),
    )


class Cam(Method):
    """Backbone, mean over the pixels, linear classifier; its maps are the classifier's, pixel by pixel."""

    name: ClassVar[str] = "cam"
    seeds: ClassVar[SeedSettings] = SeedSettings(
        foreground_threshold=0.30, background_threshold=0.05
    )
    Train: ClassVar[type[TrainSettings | ContinuedSettings]] = TrainCamSettings

    @classmethod
    def maps(cls) -> "type[CamMaps]":
        """Maps of each scale, which readers add up and divide by their maximum."""
        from workflow_scripts.storage.activation_maps import CamMaps

        return CamMaps

    def build(self, backbone: "Backbone", classes: int) -> "CamNetwork":
        """See `Method`."""
        from workflow_scripts.models.classification import CamNetwork

        return CamNetwork(backbone, classes)

    def loss(
        self, network: "nn.Module", batch: "Mapping[str, Tensor]", counts: "Tensor"
    ) -> "Tensor":
        """Multi-label soft-margin loss, mean over the images of the batch."""
        from workflow_scripts.models.classification import multi_label_loss

        return multi_label_loss(network(batch["image"]), batch["labels"]).sum() / counts[0]

    def image_logits(self, network: Any, images: "Tensor") -> "Tensor":
        """See `Method`."""
        logits: Tensor = network(images)
        return logits

    def activations(
        self, network: Any, image: LabelledImage, infer: Any, device: "torch.device"
    ) -> "CamMaps":
        """See `Method`."""
        return self.activations_together(network, [image], infer, device)[0]

    def activations_together(
        self, network: Any, images: "Sequence[LabelledImage]", infer: Any, device: "torch.device"
    ) -> "list[CamMaps]":
        """See `Method`."""
        from workflow_scripts.models.classification import cam_activations

        return cam_activations(network, images, infer.scales, device)
