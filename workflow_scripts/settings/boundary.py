"""Settings of the random walk over boundaries."""

from pydantic import Field

from workflow_scripts.settings.base import Settings


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
