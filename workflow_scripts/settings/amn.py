"""Settings of the activation manipulation network."""

from pydantic import Field

from workflow_scripts.settings.augmentation import AugmentationSettings
from workflow_scripts.settings.backbone import BackboneSettings
from workflow_scripts.settings.base import Settings
from workflow_scripts.settings.scales import Scale
from workflow_scripts.settings.training import OptimiserSettings, TrainingSettings


class TrainAmnSettings(Settings):
    """Per-pixel classification on seeds, conditioned on the image's labels; the paper's defaults."""

    backbone: BackboneSettings = BackboneSettings(name="resnet50", frozen_stages=1)
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


class InferAmnSettings(Settings):
    """Multi-scale AMN activations."""

    scales: tuple[Scale, ...] = Field(
        (1.0, 0.5, 1.5, 2.0), min_length=1, description="image scales, each with its mirror image"
    )
