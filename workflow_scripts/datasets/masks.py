"""Ground-truth masks of a dataset while it is prepared: checked where they lie, or written anew."""

from pathlib import Path

import numpy as np

from workflow_scripts.datasets.images import read_image, read_mask
from workflow_scripts.errors import InputError
from workflow_scripts.storage.masks import IGNORE


def image_size(path: Path) -> tuple[int, int]:
    """Return (width, height) in pixels of an upright photograph.

    It is decoded in full, so that a truncated file is found now and not by the training.

    Raises InputError when it is missing, damaged or no image.
    """
    height, width, _ = read_image(path).shape
    return width, height


def check_mask(
    mask: np.ndarray, size: tuple[int, int], classes: int, origin: Path, image: Path
) -> tuple[int, ...]:
    """Return the class numbers in a mask, ascending, without background and ignore.

    Args:
        mask: uint8[H, W].
        size: (width, height) of the image.
        classes: Number of classes; a value above it, 255 apart, is an error.
        origin: The file that the mask comes from, for messages.
        image: The file of the image, for messages.

    Raises:
        InputError: Another size than the image, or an unknown value.
    """
    height, width = mask.shape
    if (width, height) != size:
        raise InputError(
            f"{origin}: the mask has {width}×{height} pixels, its image {image} has"
            f" {size[0]}×{size[1]} (upright, after EXIF rotation). Make them equal."
        )
    values = np.unique(mask)
    unknown = values[(values > classes) & (values != IGNORE)]
    if unknown.size:
        shown = ", ".join(map(str, unknown[:8]))
        raise InputError(
            f"{origin}: unknown value {shown} in the mask. 0 is background, 1 to {classes} are the"
            f" classes in their order, {IGNORE} is ignored; correct the mask or the list of classes."
        )
    return tuple(int(value) for value in values if value not in (0, IGNORE))


def check_mask_file(
    path: Path, size: tuple[int, int], classes: int, image: Path
) -> tuple[int, ...]:
    """Check a mask file as `check_mask` does."""
    return check_mask(read_mask(path), size, classes, path, image)
