"""Reading photographs from files, whatever their kind."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from workflow_scripts.errors import InputError

logger = logging.getLogger(__name__)

_ORIENTATION = 0x0112
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
# Largest values of 1, 8, 10, 12, 14 and 16 bits, in which cameras, scanners and programs count.
_WHITES = (1, 255, 1023, 4095, 16383, 65535)
# A picture of which nothing is brighter than this is taken for one of fewer bits that was not stretched.
_DIM = 64


def read_image(path: Path | str) -> np.ndarray:
    """Return a photograph as uint8[H, W, 3], upright as its EXIF data say.

    Grey and CMYK images are converted, transparent parts laid on white. Of a grey image of more than 8
    bits, white is the largest value of the fewest bits (8, 10, 12, 14, 16) that hold it, of one of decimal
    numbers up to 1 it is 1.

    Raises:
        InputError: The file is missing, damaged, no image, or its values have no sure meaning.
    """
    with opened_image(path) as image:
        deep_colours = image.mode in ("RGB", "RGBA") and has_deep_channels(image)
        image.load()
        turn = _UPRIGHT.get(_orientation(image))
        upright = image.transpose(turn) if turn is not None else image
        if upright.mode == "F" or upright.mode.startswith("I"):
            return np.repeat(_eight_bits(np.asarray(upright), path)[..., None], 3, axis=2)
        if upright.has_transparency_data:
            layer = upright.convert("RGBA")
            upright = Image.new("RGBA", layer.size, "white")
            upright.alpha_composite(layer)
        pixels = np.array(upright.convert("RGB"))
        if deep_colours and 0 < pixels.max() < _DIM:
            raise InputError(
                f"{path}: colours of 16 bits whose largest value is about {256 * int(pixels.max())} of"
                " 65535: the picture would be almost black. Save it with 8 bits a channel."
            )
        return pixels


def image_size(path: Path) -> tuple[int, int]:
    """Return (width, height) in pixels of an upright photograph.

    It is decoded in full, so that a truncated file is found now and not by the training.

    Raises InputError when it is missing, damaged or no image.
    """
    height, width, _ = read_image(path).shape
    return width, height


@contextmanager
def opened_image(path: Path | str) -> Iterator[Image.Image]:
    """Open an image; whatever Pillow raises of damaged data, here or in the body, becomes an InputError."""
    try:
        with Image.open(path) as image:
            yield image
    except InputError:
        raise
    except FileNotFoundError:
        raise InputError(
            f"{path}: no such image; put it back, or correct or remove what names it"
        ) from None
    except Image.DecompressionBombError as error:
        raise InputError(
            f"{path}: too large to be read at once ({str(error).partition(',')[0]}). Reduce it first,"
            " `python -m workflow_scripts.resize_dataset --help` says how; or leave it out."
        ) from error
    except MemoryError as error:
        raise InputError(
            f"{path}: the memory does not suffice to read it; reduce the image, or give the job more"
        ) from error
    except Exception as error:  # Pillow raises almost anything of damaged data
        raise InputError(
            f"{path}: not a readable image, or truncated ({error or type(error).__name__}). Replace"
            " it, or leave the image out."
        ) from error


def has_deep_channels(image: Image.Image) -> bool:
    """Whether the file has 16 bits a channel, of which Pillow keeps the upper 8; asked before loading."""
    return any(";16" in str(argument) for tile in _tiles(image) for argument in _flat(tile[3]))


def png_bits(image: Image.Image) -> int:
    """Bits of a sample of a grey PNG (1, 2, 4, 8, 16); 8 of any other image; asked before loading."""
    for tile in _tiles(image):
        for argument in _flat(tile[3]):
            kind, _, bits = str(argument).partition(";")
            if image.format == "PNG" and kind in ("L", "1") and bits.isdigit():
                return int(bits)
    return 8


def is_upright(image: Image.Image) -> bool:
    """Whether pixels lie as a viewer shows them, whatever EXIF's data say."""
    return _orientation(image) not in _UPRIGHT


def _tiles(image: Image.Image) -> list[Any]:
    """How the file's parts are coded: decoder, box, offset and arguments of each."""
    return getattr(image, "tile", [])


def _flat(arguments: object) -> tuple[object, ...]:
    return arguments if isinstance(arguments, tuple) else (arguments,)


def _orientation(image: Image.Image) -> int:
    """EXIF's orientation; 1, upright, where it cannot be made out, as in any viewer."""
    try:
        return int(image.getexif().get(_ORIENTATION, 1))
    except Exception:  # Pillow raises almost anything of odd EXIF data
        return 1


def _eight_bits(values: np.ndarray, path: Path | str) -> np.ndarray:
    """Grey values of any type [H, W] → uint8[H, W]; InputError where white is not known."""
    if values.dtype.kind == "f" and not np.isfinite(values).all():
        raise InputError(
            f"{path}: holds values that are not finite (NaN); save it with 8 or 16 bits"
        )
    low, high = values.min(), values.max()
    if low < 0 or high > _WHITES[-1]:
        raise InputError(
            f"{path}: values from {low:g} to {high:g}; a grey image has 0 to 255, 0 to 65535, or"
            " decimals from 0 to 1. Scale it to 8 bits."
        )
    white = next(white for white in _WHITES if high <= white)
    if values.dtype.kind == "f":
        return np.rint(values * (255 / white)).astype(np.uint8)
    # 65535 / 255: 16 bits are cut as they ever were.
    return (values.astype(np.int64) * 255 // white).astype(np.uint8)
