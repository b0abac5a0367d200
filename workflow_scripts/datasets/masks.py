"""Reading label masks from files, whatever their kind, and checking them against image and classes."""

from pathlib import Path

import numpy as np
from PIL import Image

from workflow_scripts.datasets.images import opened_image, png_bits
from workflow_scripts.errors import InputError
from workflow_scripts.storage.masks import IGNORE, voc_palette

_HOW = (
    "Save masks as indexed PNG, or as 8-bit grey PNG whose values are class numbers (0 background,"
    f" {IGNORE} ignored)."
)
# Pillow stretches grey values of few bits to 0…255; the class numbers are those in the file.
_STRETCH = {2: 85, 4: 17}
_OPAQUE = 255


def read_mask(path: Path | str) -> np.ndarray:
    """Return a label mask as uint8[H, W]: 0 background, i the i-th class, 255 ignored.

    Class numbers are the indices of an indexed image, the values of a grey one of 1 to 16 bits, and of one
    in colours the numbers of those colours in VOC's palette, in which `predict` and `label` write too; if
    it has other colours and all are grey, their values.

    Raises:
        InputError: The file is missing or damaged, or its values have no meaning, or two.
    """
    with opened_image(path) as image:
        bits = png_bits(image)
        image.load()
        if image.mode == "P":
            return _indexed(image, path)
        if image.mode in ("1", "L"):
            values = np.array(image.convert("L")) // (IGNORE if image.mode == "1" else 1)
            return values // np.uint8(_STRETCH.get(bits, 1))
        if image.mode == "F" or image.mode.startswith("I"):
            return _numbers(np.asarray(image), path)
        if image.mode in ("RGB", "RGBA", "PA"):
            return _coloured(np.array(image.convert("RGBA")), path)
        if image.mode == "LA":
            raise InputError(
                f"{path}: the mask is grey with transparency, so that its values may be the brightness"
                f" of colours and not class numbers. {_HOW}"
            )
        raise InputError(f"{path}: the mask is an image of mode {image.mode}. {_HOW}")


def _indexed(image: Image.Image, path: Path | str) -> np.ndarray:
    """Indices of an indexed image; InputError where its palette tells that they were renumbered."""
    indices = np.array(image)
    palette = np.array(image.getpalette("RGB") or [], np.uint8).reshape(-1, 3)
    used = np.unique(indices)
    if len(palette) == len(used) and used[-1] == len(used) - 1:
        # Editors that reduce a palette to the colours in use keep these and change the numbers.
        numbers = _colour_numbers(palette)
        if (numbers >= 0).all() and (numbers != used).any():
            raise InputError(
                f"{path}: the mask's indices {_listed(used)} have the colours of VOC's classes"
                f" {_listed(numbers)}: a program has renumbered them (as mogrify does). Take the mask as"
                " it was before; `python -m workflow_scripts.resize_dataset` keeps the numbers."
            )
    return indices


def _numbers(values: np.ndarray, path: Path | str) -> np.ndarray:
    """Class numbers in an image of 16 or 32 bits or of decimals."""
    finite = np.isfinite(values).all() if values.dtype.kind == "f" else True
    if not finite or (values != np.rint(values)).any() or values.min() < 0 or values.max() > IGNORE:
        low, high = (values.min(), values.max()) if finite else ("NaN", "NaN")
        raise InputError(
            f"{path}: the mask has values from {low} to {high}, which are no class numbers. {_HOW}"
        )
    return values.astype(np.uint8)


def _coloured(pixels: np.ndarray, path: Path | str) -> np.ndarray:
    """Class numbers of colours uint8[H, W, 4]."""
    packed = pixels.view(np.uint32)[..., 0]
    found, where = np.unique(packed, return_inverse=True)
    colours = found.view(np.uint8).reshape(-1, 4)
    clear = (colours[:, 3] != _OPAQUE) & colours[:, :3].any(axis=1)
    if clear.any():
        raise InputError(
            f"{path}: the mask has transparent colours, such as {_rgb(colours[clear][0])}, which belong to"
            f" no class for sure. {_HOW}"
        )
    numbers = _colour_numbers(colours[:, :3])
    grey = (colours[:, :3] == colours[:, :1]).all()
    if (numbers < 0).any():
        if not grey:
            raise InputError(
                f"{path}: the mask's colour {_rgb(colours[numbers < 0][0])} is none of VOC's palette, so"
                f" that its class is not known. {_HOW}"
            )
        numbers = colours[:, 0].astype(np.int64)
    return numbers.astype(np.uint8)[where.reshape(packed.shape)]


def _colour_numbers(colours: np.ndarray) -> np.ndarray:
    """Class numbers of colours uint8[n, 3] in VOC's palette, int64[n]; -1 for any other colour."""
    known = {tuple(colour): number for number, colour in enumerate(voc_palette().tolist())}
    return np.array([known.get(tuple(colour), -1) for colour in colours.tolist()], np.int64)


def _rgb(colour: np.ndarray) -> str:
    return "({}, {}, {})".format(*colour[:3])


def _listed(numbers: np.ndarray) -> str:
    return ", ".join(map(str, numbers[:6])) + (", …" if len(numbers) > 6 else "")


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
