"""Settings of the boundary network and of the random walk over its boundaries."""

from typing import Self

from pydantic import Field, model_validator

from workflow_scripts.settings.augmentation import AugmentationSettings
from workflow_scripts.settings.backbone import BackboneSettings
from workflow_scripts.settings.base import Settings
from workflow_scripts.settings.training import OptimiserSettings, TrainingSettings


class TrainBoundarySettings(Settings):
    """Class boundaries learnt from confident seeds (IRN); defaults are the paper's."""

    backbone: BackboneSettings = BackboneSettings(name="resnet50", frozen_stages=5)
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


class PropagateSettings(Settings):
    """Random walk of activations over the boundaries; defaults are the paper's."""

    exponent: float = Field(1.3, gt=0, description="power of the activations before the walk")
    radius: int = Field(5, ge=2, description="steps are shorter than this (pixels of stride 4)")
    beta: float = Field(
        10.0, gt=0, description="power of the affinities: the higher, the more an edge holds back"
    )
    steps: int = Field(256, ge=0, description="steps of the walk")
    least_side: int = Field(
        512,
        ge=0,
        description="smaller images are padded to this for the boundary network, which was trained"
        " on padded crops of this side (pixels; 0: no padding)",
    )
