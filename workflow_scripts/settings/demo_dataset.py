"""Settings of the embedded demo dataset."""

from typing import Literal

from pydantic import Field, model_validator

from workflow_scripts.settings.base import Settings

MAX_IMAGES = 100_000


class DemoDatasetSettings(Settings):
    """Scenes composed at run time of the photographs in `resources/demo/`."""

    kind: Literal["demo"] = Field("demo", description="Compose scenes of the embedded photographs.")
    train_images: int = Field(
        400, ge=1, le=MAX_IMAGES, description="Number of training scenes, from training cut-outs."
    )
    val_images: int = Field(
        120,
        ge=1,
        le=MAX_IMAGES,
        description="Number of validation scenes, from cut-outs that training never shows.",
    )
    image_size: int = Field(
        160, ge=64, le=512, description="Width and height of a scene in pixels."
    )
    max_objects: int = Field(3, ge=1, le=8, description="Largest number of objects in a scene.")
    empty_share: float = Field(
        0.05, ge=0, le=0.5, description="Share of scenes without any object."
    )
    mixed_share: float = Field(
        0.4,
        ge=0,
        le=1,
        description="Share of scenes whose background consists of two photographs, so that strong"
        " edges lie not only around objects.",
    )
    min_object_size: float = Field(
        0.25,
        ge=0.1,
        le=1,
        description="Smallest object: square root of its area, as a share of the scene's width.",
    )
    max_object_size: float = Field(
        0.55,
        ge=0.1,
        le=1,
        description="Largest object: square root of its area, as a share of the scene's width.",
    )
    max_rotation: float = Field(
        25, ge=0, le=180, description="Largest rotation of an object in degrees, either way."
    )
    cut_share: float = Field(
        0.2, ge=0, le=1, description="Share of objects that may reach over the border of the scene."
    )
    colour_matching: float = Field(
        0.6,
        ge=0,
        le=1,
        description="How far at most an object takes over brightness, contrast and tint of the"
        " background behind it: 0 not at all, 1 entirely.",
    )
    seed: int = Field(0, ge=0, le=2**32 - 1, description="Seed of all random choices.")

    @model_validator(mode="after")
    def _consistent(self) -> "DemoDatasetSettings":
        if self.min_object_size > self.max_object_size:
            raise ValueError("min_object_size must not exceed max_object_size")
        if self.train_images + self.val_images > MAX_IMAGES:
            raise ValueError(f"train_images and val_images must not exceed {MAX_IMAGES} together")
        return self
