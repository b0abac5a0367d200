"""Settings that every training stage shares."""

from typing import Literal

from pydantic import Field

from workflow_scripts.settings.augmentation import AugmentationSettings
from workflow_scripts.settings.base import Settings


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


class TrainingSettings(Settings):
    """One training run: how long, in which steps, on what precision."""

    epochs: int = Field(5, ge=1, description="passes over the training images")
    max_steps: int | None = Field(
        None, ge=1, description="end after this number of steps, whatever `epochs` says"
    )
    batch_size: int = Field(16, ge=1, description="images a step, over all processes")
    optimiser: OptimiserSettings = OptimiserSettings()
    augmentation: AugmentationSettings = AugmentationSettings()
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
