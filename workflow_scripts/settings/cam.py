"""Settings of the classifier and its class activation maps."""

from pydantic import Field

from workflow_scripts.settings.augmentation import AugmentationSettings
from workflow_scripts.settings.backbone import BackboneSettings
from workflow_scripts.settings.base import Settings
from workflow_scripts.settings.scales import Scale
from workflow_scripts.settings.training import OptimiserSettings, TrainingSettings


class TrainCamSettings(Settings):
    """The multi-label classifier; defaults are the paper's."""

    backbone: BackboneSettings = BackboneSettings(name="resnet50", frozen_stages=3)
    training: TrainingSettings = TrainingSettings(
        optimiser=OptimiserSettings(learning_rate=0.1),
        augmentation=AugmentationSettings(resize="long_side", resize_range=(320, 640)),
    )


class InferCamSettings(Settings):
    """Multi-scale class activation maps."""

    scales: tuple[Scale, ...] = Field(
        (1.0, 0.5, 1.5, 2.0), min_length=1, description="image scales, each with its mirror image"
    )
