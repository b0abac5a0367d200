"""Settings of the segmentation network and of its test."""

from pydantic import Field

from workflow_scripts.settings.augmentation import AugmentationSettings
from workflow_scripts.settings.backbone import BackboneSettings
from workflow_scripts.settings.base import Settings
from workflow_scripts.settings.dense_crf import CrfSettings
from workflow_scripts.settings.scales import Scale
from workflow_scripts.settings.training import OptimiserSettings, TrainingSettings


class TrainSegmentationSettings(Settings):
    """DeepLab-v2 on pseudo-masks; defaults are the usual ones on VOC 2012."""

    backbone: BackboneSettings = BackboneSettings(name="resnet101", output_stride=8, dilate=True)
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


class EvaluateSegmentationSettings(Settings):
    """Test of the segmentation network: scales, mirror images and CRF stand beside its mIoU."""

    scales: tuple[Scale, ...] = Field((1.0,), min_length=1, description="image scales, averaged")
    flip: bool = Field(False, description="average with the mirror image")
    refine: bool = Field(False, description="refine the probabilities by a dense CRF")
    crf: CrfSettings = CrfSettings(
        gaussian_sxy=1, gaussian_compat=3, bilateral_sxy=67, bilateral_srgb=3, bilateral_compat=4
    )
