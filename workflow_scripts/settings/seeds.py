"""Settings of the confident seeds made from activations."""

from typing import Self

from pydantic import Field, model_validator

from workflow_scripts.settings.base import Settings
from workflow_scripts.settings.crf import CrfSettings
from workflow_scripts.settings.thresholds import Threshold


class SeedSettings(Settings):
    """Two thresholds, each followed by a dense CRF; pixels on which they differ are ignored."""

    foreground_threshold: Threshold = Field(
        0.30,
        description="activation above which a pixel may be foreground; `auto`: chosen by a rule that "
        "sees no mask; `validation`: chosen on the masks of a validation split",
    )
    background_threshold: Threshold = Field(
        0.05,
        description="activation below which a pixel may be background; `auto` and `validation` as "
        "above",
    )
    gt_prob: float = Field(
        0.7, gt=0.5, lt=1, description="confidence of a thresholded label in the CRF's unary term"
    )
    crf: CrfSettings = CrfSettings()

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        foreground, background = self.foreground_threshold, self.background_threshold
        if isinstance(foreground, str) and isinstance(background, str):
            if foreground != background:
                raise ValueError("auto and validation cannot be mixed in one pair of thresholds")
            return self
        given = not isinstance(foreground, str) and not isinstance(background, str)
        if given and background > foreground:  # type: ignore[operator]
            raise ValueError("background_threshold must not exceed foreground_threshold")
        return self

    @property
    def chosen_by(self) -> str | None:
        """`auto` or `validation` where one of the thresholds is chosen, None where both are given."""
        for threshold in (self.foreground_threshold, self.background_threshold):
            if isinstance(threshold, str):
                return threshold
        return None
