"""Settings of the segmentation network and of its test."""

from pydantic import Field

from workflow_scripts.settings.base import Settings
from workflow_scripts.settings.crf import CrfSettings
from workflow_scripts.settings.scales import Scale


class EvaluateSegmentationSettings(Settings):
    """Test of the segmentation network: scales, mirror images and CRF stand beside its mIoU."""

    scales: tuple[Scale, ...] = Field((1.0,), min_length=1, description="image scales, averaged")
    flip: bool = Field(False, description="average with the mirror image")
    refine: bool = Field(False, description="refine the probabilities by a dense CRF")
    crf: CrfSettings = CrfSettings(
        gaussian_sxy=1, gaussian_compat=3, bilateral_sxy=67, bilateral_srgb=3, bilateral_compat=4
    )
