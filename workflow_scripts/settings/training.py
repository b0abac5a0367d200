"""Settings that every training shares: images' sizes and random changes, optimiser, length, arithmetic."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from workflow_scripts.settings.base import Settings

Scale = Annotated[float, Field(gt=0)]


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


class OptimiserSettings(Settings):
    """The optimiser and its learning rates."""

    name: Literal["sgd", "adam", "adamw"] = Field("sgd", description="the algorithm")
    learning_rate: float = Field(0.1, gt=0, description="rate of the backbone, at its peak")
    head_factor: float = Field(
        10.0, gt=0, description="rate of the new layers, as a multiple of the backbone's"
    )
    head_bias_factor: float = Field(
        1.0, gt=0, description="rate of the new layers' biases, as a multiple of the new layers'"
    )
    momentum: float = Field(0.0, ge=0, lt=1, description="momentum (SGD)")
    weight_decay: float = Field(1e-4, ge=0, description="weight decay")
    schedule: Literal["polynomial", "one_cycle", "constant"] = Field(
        "polynomial", description="learning rate over the steps (polynomial: power 0.9)"
    )


class FeatureSettings(Settings):
    """Features of a backbone that does not learn, computed once for all trainings that use them.

    An image is seen in fixed views, as a whole: resized to a square, at each scale, as it is and mirrored.
    A step draws one of them: the scale for each epoch, the mirror for each image. Of `augmentation`, `flip`
    alone counts.
    """

    cache: bool = Field(
        False,
        description="train on stored features; the backbone does not learn then, whatever it says",
    )
    side: int = Field(
        448,
        ge=16,
        description="side of the square view at scale 1 (pixels, rounded to whole cells)",
    )
    scales: tuple[Scale, ...] = Field((1.0,), min_length=1, description="scales of the view")
    mirror: bool = Field(True, description="store the mirror images' features too: twice the bytes")


class TrainingSettings(Settings):
    """One training run: how long, in which steps, on what precision."""

    epochs: int = Field(5, ge=1, description="passes over the training images")
    max_steps: int | None = Field(
        None, ge=1, description="end after this number of steps, whatever `epochs` says"
    )
    batch_size: int = Field(16, ge=1, description="images a step, over all processes")
    optimiser: OptimiserSettings = OptimiserSettings()
    augmentation: AugmentationSettings = AugmentationSettings()
    features: FeatureSettings = FeatureSettings()
    precision: Literal["auto", "float32", "tf32", "bfloat16", "float16"] = Field(
        "auto",
        description="arithmetic of convolutions and products; losses are always float32. `float32` is exact, "
        "`tf32` keeps ten bits of it on GPUs (on CPUs it is float32); `auto`: bfloat16 where the device has "
        "instructions for it and gains, else float16 on GPUs and float32 on CPUs",
    )
    compile: bool = Field(
        False,
        description="compile the network by torch.compile, which takes a minute and a C++ compiler (on GPUs "
        "Triton): for long runs",
    )
