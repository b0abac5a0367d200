"""Settings of the dense conditional random field that cleans label maps."""

from typing import Any

from pydantic import Field, model_validator

from workflow_scripts.settings.base import Settings


class CrfSettings(Settings):
    """Two Gaussian pairwise kernels over one image (Krähenbühl & Koltun 2011, equation 3).

    The first sees positions alone and removes specks; the second sees positions and colours and
    moves borders onto edges of the image. Defaults are those of IRN (Ahn et al. 2019).
    """

    iterations: int = Field(
        10, ge=0, le=1000, description="Mean-field iterations; 0 leaves the unary alone"
    )
    gaussian_sxy: float = Field(
        3.0, ge=0.1, le=10_000, description="Spatial kernel: standard deviation, in pixels"
    )
    gaussian_compat: float = Field(
        3.0, ge=0, le=10_000, description="Spatial kernel: penalty of unlike labels; 0 turns it off"
    )
    bilateral_sxy: float = Field(
        50.0, ge=0.1, le=10_000, description="Bilateral kernel: standard deviation, in pixels"
    )
    bilateral_srgb: float = Field(
        5.0, ge=0.1, le=10_000, description="Bilateral kernel: standard deviation, in 0…255 levels"
    )
    bilateral_compat: float = Field(
        10.0,
        ge=0,
        le=10_000,
        description="Bilateral kernel: penalty of unlike labels; 0 turns it off",
    )

    @model_validator(mode="before")
    @classmethod
    def _without_backend(cls, values: Any) -> Any:
        if isinstance(values, dict) and "backend" in values:
            raise ValueError(
                "there is one implementation on all devices: leave the line `backend` out"
            )
        return values
