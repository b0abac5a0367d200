"""Settings of what activations, networks and masks are measured by, and of what is made of the results."""

from typing import Literal, Self

from pydantic import Field, model_validator

from workflow_scripts.settings.base import Settings
from workflow_scripts.settings.refinement import CrfSettings, RefinementSettings
from workflow_scripts.settings.training import Scale


class SweepSettings(RefinementSettings):
    """Thresholds of the sweep, and the coarse ones at which masks are refined too."""

    step: float = Field(
        0.01, gt=0, le=0.5, description="distance of thresholds: step/2, 3·step/2 … 1 - step/2"
    )
    refined_thresholds: tuple[float, ...] = Field(
        (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9),
        description="thresholds whose masks are also scored after refinement; none leaves it out",
    )

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


class EvaluateSegmentationSettings(Settings):
    """Test of the segmentation network: scales, mirror images and CRF stand beside its mIoU."""

    scales: tuple[Scale, ...] = Field((1.0,), min_length=1, description="image scales, averaged")
    flip: bool = Field(False, description="average with the mirror image")
    refine: bool = Field(False, description="refine the probabilities by a dense CRF")
    crf: CrfSettings = CrfSettings(
        gaussian_sxy=1, gaussian_compat=3, bilateral_sxy=67, bilateral_srgb=3, bilateral_compat=4
    )


class GallerySettings(Settings):
    """Which images the gallery shows, and how large."""

    gallery_images: int = Field(
        120,
        ge=1,
        description="images in the gallery, evenly spaced over the ranking by gain; all if fewer",
    )
    gallery_page: int = Field(10, ge=1, description="images on one page of the gallery")
    thumbnail: int = Field(200, ge=32, description="longest side of the gallery's pictures, pixels")


class ExplorerSettings(Settings):
    """Which images the threshold explorer shows, and how large the page may get."""

    explorer_images: int = Field(
        24,
        ge=1,
        description="images in the explorer: a third each of best, median and worst gain",
    )
    explorer_megabytes: float = Field(
        5.0, gt=0, description="largest size of the page; images that do not fit are left out"
    )


class ReportSettings(Settings):
    """The report's pages."""

    gallery: GallerySettings = GallerySettings()
    explorer: ExplorerSettings = ExplorerSettings()


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


class LabelSettings(Settings):
    """What may differ from the run that the networks come from."""

    threshold: float | None = Field(
        None, gt=0, lt=1, description="background threshold; the run's own (first) one if left out"
    )


class PredictLabelsSettings(Settings):
    """When an image shows a class."""

    probability: float = Field(
        0.5, gt=0, lt=1, description="an image shows a class from this probability on"
    )
    at_least_one: bool = Field(
        True, description="where no class is as probable, the most probable one is shown"
    )
    scales: tuple[Scale, ...] = Field(
        (1.0,),
        min_length=1,
        description="image scales, each with its mirror image; logits are averaged",
    )
