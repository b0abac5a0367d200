"""Settings of thresholds that nobody has to guess."""

from typing import Annotated, Literal

from pydantic import Field

from workflow_scripts.settings.base import Settings

AUTO, VALIDATION = "auto", "validation"
Named = Literal["auto", "validation"]
Threshold = Annotated[float, Field(gt=0, lt=1)] | Named


class ValidationSettings(Settings):
    """What thresholds chosen on masks share with those of a rule."""

    step: float = Field(0.01, gt=0, le=0.1, description="distance of the thresholds considered")
    seed_margin: float = Field(
        0.125,
        gt=0,
        lt=0.5,
        description="distance of the seeds' two thresholds from their middle; at most half the way to 0 "
        "or 1",
    )
