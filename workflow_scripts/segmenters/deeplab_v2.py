"""DeepLab-v2 (Chen et al., TPAMI 2018): parallel dilated convolutions on the last feature map."""

from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from workflow_scripts.backbones.resnet import ResNet
from workflow_scripts.doors.backbone import BackboneSettings
from workflow_scripts.doors.segmenter import SegmenterSettings
from workflow_scripts.settings.training import (
    AugmentationSettings,
    OptimiserSettings,
    TrainingSettings,
)

if TYPE_CHECKING:
    from torch import nn

    from workflow_scripts.models.feature_maps import Backbone


class DeepLabV2(SegmenterSettings):
    """DeepLab-v2 on pseudo-masks; defaults are the usual ones on VOC 2012."""

    name: ClassVar[str] = "deeplab_v2"
    title: ClassVar[str] = "DeepLab-v2"

    segmenter: Literal["deeplab_v2"] = Field("deeplab_v2", description="DeepLab-v2 with ASPP")
    backbone: BackboneSettings = ResNet(name="resnet101", output_stride=8, dilate=True)
    dilations: tuple[int, ...] = Field(
        (6, 12, 18, 24), min_length=1, description="dilations of ASPP's parallel convolutions"
    )
    training: TrainingSettings = TrainingSettings(
        epochs=24,
        batch_size=10,
        optimiser=OptimiserSettings(
            learning_rate=2.5e-4, head_bias_factor=2.0, momentum=0.9, weight_decay=5e-4
        ),
        augmentation=AugmentationSettings(resize="scale", resize_range=(0.5, 1.5), crop=321),
    )

    def build(self, backbone: "Backbone", classes: int) -> "nn.Module":
        """See `SegmenterSettings`."""
        from workflow_scripts.models.segmentation import Aspp, SegmentationNetwork

        return SegmentationNetwork(backbone, Aspp(backbone.channels, classes + 1, self.dilations))
