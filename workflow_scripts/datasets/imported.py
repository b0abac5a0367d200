"""Activations and seeds that another method made: one file an image, named by the image's id."""

import zipfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from workflow_scripts.datasets.images import check_mask, read_mask
from workflow_scripts.datasets.index import ImageRecord
from workflow_scripts.errors import InputError
from workflow_scripts.storage.activations import activation_shape
from workflow_scripts.storage.shard_files import STRIDE

SUFFIXES = (".npy", ".npz")
ARRAY, LABELS = "activations", "labels"
TOLERANCE = 1e-3


def read_activations(folder: Path, record: ImageRecord, classes: int, normalise: str) -> np.ndarray:
    """Read an image's activations and bring them to the stored form.

    The file is `{id}.npy`, or `{id}.npz` with the array `activations` (or a single array of any name)
    and, optionally, `labels`: the class number of each channel. Without `labels` the channels are the
    image's labels in ascending order, or all classes, or background and all classes. The array may have
    any resolution: full size, that of a feature map, or already a quarter of the image's size.

    Args:
        folder: Where the files are.
        record: The image.
        classes: C, the number of classes.
        normalise: "none" or "maximum", see `ImportActivationsSettings`.

    Returns:
        float32 [labels of the image, ceil(H / 4), ceil(W / 4)] in 0…1.

    Raises:
        InputError: The file is missing, holds no such array, or values that are no activations.
    """
    shape = activation_shape(record)
    if not record.labels:
        return np.zeros(shape, np.float32)
    path = _find(folder, record)
    array, channels = _load(path)
    if array.ndim != 3 or not np.issubdtype(array.dtype, np.number) or 0 in array.shape:
        raise InputError(
            f"{path}: {array.dtype} array of shape {list(array.shape)}; expected numbers"
            " [labels or classes, height, width]"
        )
    chosen = _select(array, channels, record.labels, classes, path).astype(np.float32)
    stored = _to_stored_size(chosen, record, path)
    if not np.isfinite(stored).all():
        raise InputError(
            f"{path}: the array holds values that are not finite; replace or leave out NaN"
        )
    if normalise == "maximum":
        positive = np.maximum(stored, 0)
        return positive / (positive.max(axis=(1, 2), keepdims=True) + np.float32(1e-5))
    if stored.min() < -TOLERANCE or stored.max() > 1 + TOLERANCE:
        raise InputError(
            f"{path}: values from {stored.min():.3g} to {stored.max():.3g}; activations lie in 0…1."
            " Scale them, or set `normalise: maximum` for this method in `imports`."
        )
    return stored.clip(0, 1)


def read_seed(folder: Path, record: ImageRecord, classes: Sequence[str]) -> tuple[np.ndarray, bool]:
    """Read an image's seed `{id}.png`: 0 background, i the i-th class, 255 ignored.

    Returns:
        uint8 [H, W], and whether it shows a class that the image's labels do not name. An image
        without labels and without a file is background.

    Raises:
        InputError: The file is missing, of another size than the image, or has unknown values.
    """
    path = folder / f"{record.id}.png"
    if not record.labels and not path.is_file():
        return np.zeros((record.height, record.width), np.uint8), False
    if not path.is_file():
        raise InputError(_missing(folder, record, ".png"))
    seed = read_mask(path, classes)
    present = check_mask(seed, (record.width, record.height), len(classes), path, record.path)
    return seed, not set(present) <= set(record.labels)


def activations_of_seed(seed: np.ndarray, labels: Sequence[int]) -> np.ndarray:
    """Hard activations: the share of each label's pixels in each block of 4×4 pixels of a seed.

    Args:
        seed: uint8 [H, W].
        labels: Class numbers of the image.

    Returns:
        float32 [len(labels), ceil(H / 4), ceil(W / 4)] in 0…1.
    """
    shown = [seed == label for label in labels]
    return _block_means(np.array(shown, np.float32).reshape(len(labels), *seed.shape))


def _find(folder: Path, record: ImageRecord) -> Path:
    for suffix in SUFFIXES:
        path = folder / f"{record.id}{suffix}"
        if path.is_file():
            return path
    raise InputError(_missing(folder, record, " or ".join(SUFFIXES)))


def _missing(folder: Path, record: ImageRecord, suffix: str) -> str:
    return (
        f"{folder}: no file {record.id}{suffix} for image {record.path}. Every image of the training and"
        " evaluated splits needs one, named by its `id` in the index."
    )


def _load(path: Path) -> tuple[np.ndarray, np.ndarray | None]:
    """The array, and the class numbers of its channels if the file says them."""
    try:
        if path.suffix == ".npy":
            return np.load(path, allow_pickle=False), None
        with np.load(path, allow_pickle=False) as file:
            names = [name for name in file.files if name != LABELS]
            if ARRAY not in names and len(names) != 1:
                raise InputError(
                    f"{path}: holds {', '.join(file.files) or 'nothing'}; expected an array `{ARRAY}`"
                )
            labels = file[LABELS] if LABELS in file.files else None
            return file[ARRAY if ARRAY in names else names[0]], labels
    except (ValueError, OSError, EOFError, KeyError, zipfile.BadZipFile) as error:
        raise InputError(
            f"{path}: not a readable array ({error}). Pickled objects are not read: write the array"
            " alone with numpy.save, or with its class numbers by"
            f" numpy.savez(path, {ARRAY}=…, {LABELS}=…)."
        ) from error


def _select(
    array: np.ndarray,
    channels: np.ndarray | None,
    labels: Sequence[int],
    classes: int,
    path: Path,
) -> np.ndarray:
    """The channels of the image's labels, ascending."""
    if channels is not None:
        numbers = [int(number) for number in np.ravel(channels)]
        absent = sorted(set(labels) - set(numbers))
        if len(numbers) != len(array) or absent:
            raise InputError(
                f"{path}: {len(array)} channels with the class numbers {numbers}; the image's labels are"
                f" {list(labels)} (numbers begin with 1); give one channel for each"
            )
        return array[[numbers.index(label) for label in labels]]
    if len(array) == len(labels):
        return array
    if len(array) in (classes, classes + 1):
        return array[np.asarray(labels) - 1 + len(array) - classes]
    raise InputError(
        f"{path}: {len(array)} channels; expected {len(labels)} (the image's labels), {classes} (all"
        f" classes) or {classes + 1} (background first)"
    )


def _to_stored_size(array: np.ndarray, record: ImageRecord, path: Path) -> np.ndarray:
    """float32 [k, h, w] of any resolution → [k, ceil(H / 4), ceil(W / 4)]."""
    height, width = array.shape[1:]
    stored = activation_shape(record)[1:]
    if (height, width) == stored:
        return array
    if (height, width) == (record.height, record.width):
        return _block_means(array)
    # Sizes of feature maps are rounded: one row or column is no other shape.
    if abs(height * record.width - width * record.height) > max(record.width, record.height):
        raise InputError(
            f"{path}: {width}×{height} values for an image of {record.width}×{record.height} pixels: the"
            " shapes differ. Is the array transposed, or of another image? Give one of the image's shape."
        )
    rows = _interpolated(array, 1, stored[0], STRIDE * height / record.height)
    return _interpolated(rows, 2, stored[1], STRIDE * width / record.width)


def _interpolated(array: np.ndarray, axis: int, length: int, step: float) -> np.ndarray:
    """Linear interpolation along an axis at the centres of `length` cells of `step` elements."""
    last = array.shape[axis] - 1
    position = np.clip((np.arange(length) + 0.5) * step - 0.5, 0, last)
    low = position.astype(np.int64)
    high = np.minimum(low + 1, last)
    shape = [1, 1, 1]
    shape[axis] = length
    weight = (position - low).astype(np.float32).reshape(shape)
    return array.take(low, axis) * (1 - weight) + array.take(high, axis) * weight


def _block_means(array: np.ndarray) -> np.ndarray:
    """Means over blocks of 4×4, the last ones over what the image has: [k, H, W] → [k, h, w]."""
    rows, columns = (-(-side // STRIDE) for side in array.shape[1:])
    padding = [(0, 0), (0, STRIDE * rows - array.shape[1]), (0, STRIDE * columns - array.shape[2])]
    blocks = np.pad(array, padding).reshape(len(array), rows, STRIDE, columns, STRIDE)
    counts = np.pad(np.ones(array.shape[1:], np.float32), padding[1:])
    pixels = counts.reshape(rows, STRIDE, columns, STRIDE).sum(axis=(1, 3))
    return blocks.sum(axis=(2, 4), dtype=np.float32) / pixels
