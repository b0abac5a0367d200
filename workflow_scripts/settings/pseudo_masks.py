"""Settings of the pseudo-masks that the segmentation network learns from."""

from typing import Literal

from pydantic import Field

from workflow_scripts.settings.base import Settings
from workflow_scripts.settings.crf import CrfSettings


class PseudoMaskSettings(Settings):
    """Activations, a background threshold, and what sharpens the result."""

    refinement: Literal["crf", "none"] = Field(
        "crf", description="refine the thresholded labels by a dense CRF"
    )
    gt_prob: float = Field(
        0.7, gt=0.5, lt=1, description="confidence of a thresholded label in the CRF's unary term"
    )
    crf: CrfSettings = CrfSettings()
