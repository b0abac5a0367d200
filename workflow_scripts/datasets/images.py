"""Reading photographs and label masks from files, whatever their kind, and checking them."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from workflow_scripts.datasets.label_map import LabelMap, label_map_of
from workflow_scripts.errors import InputError
from workflow_scripts.storage.masks import IGNORE, voc_palette

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
_HOW = (
    "Save masks as indexed PNG, or as 8-bit grey PNG whose values are class numbers (0 background,"
    f" {IGNORE} ignored)."
)
# Pillow stretches grey values of few bits to 0…255; the class numbers are those in the file.
_STRETCH = {2: 85, 4: 17}
_OPAQUE = 255
_FULL_PALETTE = 256
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


def read_mask(path: Path | str, classes: Sequence[str] | None = None) -> np.ndarray:
    """Return a label mask as uint8[H, W]: 0 background, i the i-th class, 255 ignored.

    Class numbers are the indices of an indexed image, the values of a grey one of 1 to 16 bits, and of one
    in colours the numbers of those colours: in the annotation tool's `labelmap.txt` where one lies with the
    masks (`datasets/label_map.py`), else in VOC's palette, in which `predict` and `label` write too; if
    it has other colours and all are grey, their values.

    Args:
        path: The file.
        classes: Names of the classes whose numbers are wanted, for masks in the colours of a label map; by
            default the label map's own.

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
            return _coloured(np.array(image.convert("RGBA")), path, classes)
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
    if len(palette) < _FULL_PALETTE and used[-1] < len(palette):
        # Editors that reduce a palette to the colours in use keep these and change the numbers.
        numbers = _colour_numbers(palette[used])
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


def _coloured(pixels: np.ndarray, path: Path | str, classes: Sequence[str] | None) -> np.ndarray:
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
    label_map = label_map_of(Path(path))
    if label_map is not None:
        of_colours = _by_label_map(colours, label_map, path, classes)
        return of_colours[where.reshape(packed.shape)]
    numbers = _colour_numbers(colours[:, :3])
    grey = (colours[:, :3] == colours[:, :1]).all()
    if (numbers < 0).any():
        if not grey:
            raise InputError(
                f"{path}: the mask's colour {_rgb(colours[numbers < 0][0])} is none of VOC's palette, so"
                f" that its class is not known. Put the annotation tool's `labelmap.txt` (lines"
                f" `name:red,green,blue::`) beside the masks. Or: {_HOW}"
            )
        numbers = colours[:, 0].astype(np.int64)
    return numbers.astype(np.uint8)[where.reshape(packed.shape)]


def _by_label_map(
    colours: np.ndarray, label_map: LabelMap, path: Path | str, classes: Sequence[str] | None
) -> np.ndarray:
    """Class numbers uint8[n] of colours uint8[n, 4], as a label map has them."""
    known = label_map.numbers if classes is None else label_map.numbers_for(classes)
    found = []
    for red, green, blue in colours[:, :3].tolist():
        number = known.get((red, green, blue))
        if number is None:
            raise InputError(
                f"{path}: the mask's colour {(red, green, blue)} is not in {label_map.path}. Add a line for"
                " its class there, or correct the mask."
            )
        if number < 0:
            name = label_map.classes[label_map.numbers[red, green, blue] - 1]
            raise InputError(
                f"{path}: the mask shows {name!r}, as {label_map.path} says of its colour, which is none of"
                f" the classes {', '.join(classes or ())}. Give the list that the masks were made with."
            )
        found.append(number)
    return np.array(found, np.uint8)


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
