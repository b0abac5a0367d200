"""Settings of the boundary network's training; without torch, since the Snakefile reads them."""

from typing import Self

from pydantic import Field, model_validator

from workflow_scripts.backbones.resnet import ResNet
from workflow_scripts.doors.backbone import BackboneSettings
from workflow_scripts.settings.base import Settings
from workflow_scripts.settings.training import (
    AugmentationSettings,
    OptimiserSettings,
    TrainingSettings,
)


class TrainBoundarySettings(Settings):
    """Class boundaries learnt from confident seeds (IRN); defaults are the paper's."""

    backbone: BackboneSettings = ResNet(name="resnet50", frozen_stages=5)
    radius: int = Field(
        10, ge=2, description="pairs of pixels closer than this are compared (pixels of stride 4)"
    )
    training: TrainingSettings = TrainingSettings(
        epochs=3,
        batch_size=32,
        optimiser=OptimiserSettings(learning_rate=0.1, head_factor=10.0),
        augmentation=AugmentationSettings(resize="scale", resize_range=(0.5, 1.5), crop=512),
    )

    @model_validator(mode="after")
    def _pairs_fit(self) -> Self:
        crop, least = self.training.augmentation.crop, 8 * (self.radius - 1) + 1
        if crop < least:
            raise ValueError(
                f"training.augmentation.crop: radius {self.radius} needs {least} or more"
            )
        return self
