"""Settings of the export of a segmentation network."""

from typing import Literal

from pydantic import Field

from workflow_scripts.settings.base import Settings


class ExportSettings(Settings):
    """What the exported network expects, and how well it must agree with torch."""

    normalisation: Literal["inside", "outside"] = Field(
        "inside",
        description="inside: the network takes RGB values 0…255; outside: values already normalised "
        "by the mean and deviation in model.json",
    )
    opset: int = Field(17, ge=16, le=20, description="version of ONNX's operators")
    max_difference: float = Field(
        1e-3, gt=0, description="largest difference of logits from torch's, relative to the largest"
    )
    min_agreement: float = Field(
        0.999,
        gt=0,
        le=1,
        description="smallest share of pixels that get the same label as in torch",
    )
