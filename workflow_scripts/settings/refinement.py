"""Settings of the way from activations to seeds and pseudo-masks: random walk, thresholds and dense CRF."""

import math
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from workflow_scripts.settings.base import Settings

# Thresholds that nobody has to guess: chosen by a rule without masks, or on the masks of a small split.
AUTO, VALIDATION = "auto", "validation"
Named = Literal["auto", "validation"]
Threshold = Annotated[float, Field(gt=0, lt=1)] | Named


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


class ParSettings(Settings):
    """Pixel-adaptive refinement (Ru et al. 2022): averages over near and far neighbours of like colour."""

    iterations: int = Field(
        10, ge=0, le=1000, description="Averages one after another; 0 leaves the maps alone"
    )
    dilations: tuple[Annotated[int, Field(ge=1, le=1000)], ...] = Field(
        (1, 2, 4, 8, 12, 24),
        min_length=1,
        description="Distances of the eight neighbours, in pixels",
    )
    w1: float = Field(
        0.3,
        gt=0,
        le=100,
        description="Width of the affinities, in standard deviations of neighbours",
    )
    w2: float = Field(
        0.01, ge=0, le=100, description="Weight of the affinity by position beside that by colour"
    )

    @model_validator(mode="after")
    def _bounded(self) -> Self:
        # Each iteration multiplies the sum over the labels by 1 + w2; float32 holds e^88.
        if self.iterations * math.log1p(self.w2) > 80:
            raise ValueError(
                f"{self.iterations} iterations with `w2: {self.w2}` exceed all numbers; expected "
                "iterations · log(1 + w2) of at most 80: lower one of them"
            )
        return self


class RefinementSettings(Settings):
    """What sharpens thresholded activations."""

    refinement: Literal["crf", "par", "none"] = Field(
        "crf",
        description="what refines the thresholded labels: `crf`, a dense CRF; `par`, pixel-adaptive "
        "refinement; `none`",
    )
    gt_prob: float = Field(
        0.7, gt=0.5, lt=1, description="confidence of a thresholded label in the CRF's unary term"
    )
    crf: CrfSettings = CrfSettings()
    par: ParSettings = ParSettings()


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


class SeedSettings(RefinementSettings):
    """Two thresholds, each followed by a refinement; pixels on which they differ are ignored."""

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


class RegionSettings(Settings):
    """Regions of an image that another segmenter found (SAM, for instance), merged into pseudo-masks.

    Chen et al., "Segment Anything Model (SAM) Enhanced Pseudo Labels for Weakly Supervised Semantic
    Segmentation", 2023, whose shares are the defaults.
    """

    folder: str | None = Field(
        None,
        description="folder with a folder of binary masks (PNG) for each image, `{id}/…png`, or a JSON file, "
        "`{id}.json`, as SAM's automatic generator writes them with `coco_rle`; regions are not used if left "
        "out",
    )
    inside: float = Field(
        0.5,
        gt=0,
        lt=1,
        description="a region joins a class if a larger share of it is of that class",
    )
    covered: float = Field(
        0.85, gt=0, le=1, description="or if it covers at least this share of the class"
    )


class PseudoMaskSettings(RefinementSettings):
    """Activations, a background threshold, and what sharpens the result."""

    regions: RegionSettings = RegionSettings()


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
