"""Reading photographs and label masks from files, whatever their kind."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from workflow_scripts.errors import InputError

_DEEP_MODES = ("I;16", "I;16L", "I;16B", "I")


def read_image(path: Path | str) -> np.ndarray:
    """Return a photograph as uint8[H, W, 3], upright as its EXIF data say.

    Grey and CMYK images are converted, 16 bits a channel reduced to 8, transparent parts laid on
    white. Raises InputError, naming the file, when it is missing, damaged or no image.
    """
    with _opened(path) as image:
        upright = ImageOps.exif_transpose(image)
        if upright.mode in _DEEP_MODES:
            grey = np.clip(np.asarray(upright, dtype=np.int64), 0, 65535) // 257
            return np.repeat(grey.astype(np.uint8)[..., None], 3, axis=2)
        if upright.has_transparency_data:
            layer = upright.convert("RGBA")
            upright = Image.new("RGBA", layer.size, "white")
            upright.alpha_composite(layer)
        return np.array(upright.convert("RGB"))


def read_mask(path: Path | str) -> np.ndarray:
    """Return a label mask as uint8[H, W]: the indices of an indexed PNG, or the values of a grey one.

    Raises InputError, naming the file, when it is missing, damaged or of another kind.
    """
    with _opened(path) as image:
        if image.mode not in ("P", "L"):
            raise InputError(
                f"{path}: the mask is an image of mode {image.mode}; expected an indexed or 8-bit"
                " grey PNG whose values are class numbers (0 background, 255 ignored)"
            )
        return np.array(image)


@contextmanager
def _opened(path: Path | str) -> Iterator[Image.Image]:
    """Open and decode an image; whatever Pillow raises on damaged data becomes an InputError."""
    try:
        with Image.open(path) as image:
            image.load()
            yield image
    except FileNotFoundError:
        raise InputError(f"{path}: no such image; correct its path in the index") from None
    except (OSError, SyntaxError, ValueError, EOFError, Image.DecompressionBombError) as error:
        raise InputError(
            f"{path}: not a readable image, or truncated ({error}). Replace it, or leave the image"
            " out."
        ) from error
