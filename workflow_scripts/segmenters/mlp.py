"""A light decoder: SegFormer's (Xie et al., NeurIPS 2021), linear layers over all levels of the pyramid."""

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


class MlpDecoder(SegmenterSettings):
    """Each level's channels are projected to `width`, enlarged to the finest one used, joined and fused.

    With backbones of one stride, such as vision transformers, its logits have that stride. Normalisation
    over each pixel's channels takes the place of the published batch normalisation, whose statistics small
    batches cannot give.
    """

    name: ClassVar[str] = "mlp"
    title: ClassVar[str] = "MLP decoder"

    segmenter: Literal["mlp"] = Field("mlp", description="SegFormer's decoder of linear layers")
    backbone: BackboneSettings = ResNet(name="resnet50")
    width: int = Field(256, ge=8, description="channels of each projected level")
    levels: int = Field(
        4, ge=1, description="levels that are joined, the coarsest first; all if there are fewer"
    )
    dropout: float = Field(0.1, ge=0, lt=1, description="dropout before the logits, in training")
    training: TrainingSettings = TrainingSettings(
        epochs=24,
        batch_size=16,
        optimiser=OptimiserSettings(name="adamw", learning_rate=6e-5, weight_decay=1e-2),
        augmentation=AugmentationSettings(resize="scale", resize_range=(0.5, 2.0), crop=512),
    )

    @property
    def reads_pyramid(self) -> bool:
        """With one level it does not."""
        return self.levels > 1

    def build(self, backbone: "Backbone", classes: int) -> "nn.Module":
        """See `SegmenterSettings`."""
        from workflow_scripts.models.segmentation import PyramidDecoder

        return PyramidDecoder(backbone, classes + 1, self.width, self.levels, self.dropout)
