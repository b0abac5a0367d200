"""Settings of the random changes made to training images."""

from typing import Literal, Self

from pydantic import Field, model_validator

from workflow_scripts.settings.base import Settings


class AugmentationSettings(Settings):
    """Resize, mirror, crop: in this order."""

    resize: Literal["none", "long_side", "scale"] = Field(
        "none", description="random resize: of the long side to pixels, or by a factor"
    )
    resize_range: tuple[float, float] = Field(
        (1.0, 1.0), description="lowest and highest long side (pixels) or factor"
    )
    flip: bool = Field(True, description="mirror every other image")
    crop: int = Field(512, ge=16, description="side of the random crop (pixels), zero padded")
    colour: float = Field(
        0.0, ge=0, lt=1, description="random change of brightness, contrast and saturation"
    )

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        low, high = self.resize_range
        if not 0 < low <= high:
            raise ValueError(f"resize_range: expected 0 < low <= high, got {low} {high}")
        return self
