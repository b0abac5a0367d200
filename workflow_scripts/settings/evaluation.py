"""Settings of what activations are measured by."""

from typing import Literal, Self

from pydantic import Field, model_validator

from workflow_scripts.settings.base import Settings
from workflow_scripts.settings.crf import CrfSettings


class SweepSettings(Settings):
    """Thresholds of the sweep, and the coarse ones at which masks are refined too."""

    step: float = Field(
        0.01, gt=0, le=0.5, description="distance of thresholds: step/2, 3·step/2 … 1 - step/2"
    )
    refined_thresholds: tuple[float, ...] = Field(
        (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9),
        description="thresholds whose masks are also scored after a dense CRF; none leaves it out",
    )
    gt_prob: float = Field(
        0.7, gt=0.5, lt=1, description="confidence of a thresholded label in the CRF's unary term"
    )
    crf: CrfSettings = CrfSettings()

    @model_validator(mode="after")
    def _ascending(self) -> Self:
        thresholds = self.refined_thresholds
        if list(thresholds) != sorted(set(thresholds)) or any(not 0 < t < 1 for t in thresholds):
            raise ValueError("refined_thresholds must ascend between 0 and 1")
        if abs(1 / self.step - round(1 / self.step)) > 1e-6:
            raise ValueError("step must divide 1, as 0.01 does")
        return self


class SummarySettings(Settings):
    """How differences between methods are tested."""

    bootstrap_draws: int = Field(
        1000, ge=10, description="resamplings of the images for each difference between two methods"
    )
    bootstrap_confidence: float = Field(
        0.95, gt=0.5, lt=1, description="probability mass of the interval of a difference"
    )
    bootstrap_seed: int = Field(0, ge=0, description="seed of the resamplings")


class EvaluateSettings(Settings):
    """What ignored pixels of predicted masks mean."""

    ignored: Literal["wrong", "skip"] = Field(
        "wrong", description="predictions of 255 count as missed (wrong) or not at all (skip)"
    )
