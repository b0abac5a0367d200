"""From stored images to network inputs: resize, mirror, crop, normalise."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from PIL import Image

from workflow_scripts.settings.training import AugmentationSettings

IGNORE = 255


def normalise(image: np.ndarray, mean: Sequence[float], std: Sequence[float]) -> np.ndarray:
    """uint8 [H, W, 3] → float32 [3, H, W] with the given mean and deviation of values in 0…1."""
    scale = np.float32(255) * np.asarray(std, np.float32)
    shift = np.asarray(mean, np.float32) / np.asarray(std, np.float32)
    return np.ascontiguousarray((image / scale - shift).transpose(2, 0, 1), dtype=np.float32)


def rescale_to(image: np.ndarray, height: int, width: int) -> np.ndarray:
    """Bicubic resize of uint8 [H, W, 3] to a size."""
    if image.shape[:2] == (height, width):
        return image
    return np.asarray(Image.fromarray(image).resize((width, height), Image.Resampling.BICUBIC))


@dataclass(frozen=True)
class Window:
    """Where a crop takes from the resized image and where it puts it, along one axis (pixels)."""

    source: int
    target: int
    length: int


def _window(length: int, crop: int, rng: np.random.Generator) -> Window:
    """A random crop of an axis, or a random place in the padding if the axis is shorter."""
    if length >= crop:
        return Window(int(rng.integers(length - crop + 1)), 0, crop)
    return Window(0, int(rng.integers(crop - length + 1)), length)


def _factor(settings: AugmentationSettings, long_side: int, rng: np.random.Generator) -> float:
    if settings.resize == "none":
        return 1.0
    drawn = rng.uniform(*settings.resize_range)
    return drawn / long_side if settings.resize == "long_side" else drawn


def _change_colour(image: np.ndarray, strength: float, rng: np.random.Generator) -> np.ndarray:
    """Random brightness, contrast and saturation: factors in 1 ± strength."""
    brightness, contrast, saturation = rng.uniform(1 - strength, 1 + strength, 3).astype(np.float32)
    values = image.astype(np.float32) * brightness
    mean = values.mean()
    values = (values - mean) * contrast + mean
    grey = values.mean(axis=2, keepdims=True)
    values = (values - grey) * saturation + grey
    return np.clip(values, 0, 255)


class Crop(NamedTuple):
    """A random view of an image.

    Attributes:
        pixels: [S, S, 3] in 0…255: uint8, or float32 where colours were changed.
        place: Where in the crop the image lies: first row and the one behind its last, columns likewise. What
            lies outside is padding, which is 0 once `pixels` are normalised.
        mask: uint8 [S, S], 255 outside; None for an image without one.
    """

    pixels: np.ndarray
    place: np.ndarray
    mask: np.ndarray | None


def augment(
    image: np.ndarray,
    mask: np.ndarray | None,
    settings: AugmentationSettings,
    rng: np.random.Generator,
) -> Crop:
    """A random view of an image, and of its mask if there is one; only what the crop shows is resized.

    Args:
        image: uint8 [H, W, 3].
        mask: uint8 [H, W], resized by nearest neighbour.
        settings: What to change, and the crop S.
        rng: Source of all randomness.
    """
    height, width = image.shape[:2]
    factor = _factor(settings, max(height, width), rng)
    new_height, new_width = max(1, round(height * factor)), max(1, round(width * factor))
    rows = _window(new_height, settings.crop, rng)
    columns = _window(new_width, settings.crop, rng)
    mirrored = settings.flip and bool(rng.integers(2))
    box = (
        columns.source * width / new_width,
        rows.source * height / new_height,
        (columns.source + columns.length) * width / new_width,
        (rows.source + rows.length) * height / new_height,
    )
    size = (columns.length, rows.length)
    step = -1 if mirrored else 1

    def view(array: np.ndarray, method: Image.Resampling) -> np.ndarray:
        return np.asarray(Image.fromarray(array).resize(size, method, box))[:, ::step]

    seen = view(image, Image.Resampling.BICUBIC)
    if settings.colour:
        seen = _change_colour(seen, settings.colour, rng)
    ends = [end for axis in (rows, columns) for end in (axis.target, axis.target + axis.length)]
    inside = slice(*ends[:2]), slice(*ends[2:])
    pixels = np.zeros((settings.crop, settings.crop, 3), seen.dtype)
    pixels[inside] = seen
    if mask is None:
        return Crop(pixels, np.array(ends), None)
    padded_mask = np.full((settings.crop, settings.crop), IGNORE, np.uint8)
    padded_mask[inside] = view(mask, Image.Resampling.NEAREST)
    return Crop(pixels, np.array(ends), padded_mask)
