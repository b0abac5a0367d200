"""Bilinear enlargement of maps to the size of the image, of stride 4 and of several scales."""

from functools import lru_cache

import numpy as np

from workflow_scripts.storage.compiled import compiled
from workflow_scripts.storage.shard_files import STRIDE

Maps = tuple[np.ndarray, ...]
"""float32 [k, h, w] of each scale."""
Weights = tuple[np.ndarray, np.ndarray, np.ndarray]


def enlarge(small: np.ndarray, height: int, width: int) -> np.ndarray:
    """Enlarge float32[k, h, w] four times bilinearly and crop it to float32[k, height, width].

    Sample positions are those of `align_corners=False`: output pixel x lies at (x + 0.5) / 4 - 0.5
    of the input, clamped at the border. Rows are interpolated before columns, in float32.
    """
    rows, columns = small.shape[1:]
    large = np.zeros((len(small), height, width), np.float32)
    _add(small, enlarging_weights(rows, height), enlarging_weights(columns, width), large)
    return large


def add_resized(small: np.ndarray, large: np.ndarray) -> None:
    """Resize float32[k, h, w] bilinearly, as `enlarge` does, and add it to `large`, float32[k, H, W]."""
    rows, columns = small.shape[1:]
    height, width = large.shape[1:]
    vertical = _weights(rows, height, rows / height)
    _add(small, vertical, _weights(columns, width, columns / width), large)


def _add(small: np.ndarray, vertical: Weights, horizontal: Weights, large: np.ndarray) -> None:
    y_low, y_high, y_second = vertical
    x_low, x_high, x_second = horizontal
    _add_interpolated(
        np.ascontiguousarray(small, np.float32),
        (y_low, y_high, 1 - y_second, y_second),
        (x_low, x_high, 1 - x_second, x_second),
        large,
    )


@compiled
def _add_interpolated(
    small: np.ndarray,
    vertical: tuple[np.ndarray, ...],
    horizontal: tuple[np.ndarray, ...],
    large: np.ndarray,
) -> None:
    y_low, y_high, y_first, y_second = vertical
    x_low, x_high, x_first, x_second = horizontal
    channels, height, width = large.shape
    columns = small.shape[2]
    row = np.empty(columns, np.float32)
    for channel in range(channels):
        for y in range(height):
            low, high = small[channel, y_low[y]], small[channel, y_high[y]]
            for x in range(columns):
                row[x] = low[x] * y_first[y] + high[x] * y_second[y]
            for x in range(width):
                large[channel, y, x] += row[x_low[x]] * x_first[x] + row[x_high[x]] * x_second[x]


def reduce(large: np.ndarray) -> np.ndarray:
    """The counterpart of `enlarge`: float32[k, H, W] → float32[k, ceil(H/4), ceil(W/4)].

    Its enlargement is the closest one to `large`, by least squares. Samples of `large` would cut the
    tips of its piecewise linear maps, whose knots lie between the samples.
    """
    rows, columns = _least_squares(large.shape[1]), _least_squares(large.shape[2])
    return rows @ large.astype(np.float32, copy=False) @ columns.T


@lru_cache(maxsize=64)
def _least_squares(length: int) -> np.ndarray:
    """The pseudo-inverse of enlarging an axis, float32[ceil(length / 4), length]."""
    size = -(-length // STRIDE)
    low, high, weight = enlarging_weights(size, length)
    enlarging = np.zeros((length, size))
    pixels = np.arange(length)
    np.add.at(enlarging, (pixels, low), 1 - weight)
    np.add.at(enlarging, (pixels, high), weight)
    return np.linalg.solve(enlarging.T @ enlarging, enlarging.T).astype(np.float32)


def enlarging_weights(size: int, length: int) -> Weights:
    """Return for each of `length` output positions its two inputs and the second one's weight.

    Indices are int64[length] into an axis of `size`, weights float32[length] (multiples of 1/8).
    Raises ValueError when `length` is not from 4 * size - 3 to 4 * size.
    """
    if not STRIDE * (size - 1) < length <= STRIDE * size:
        raise ValueError(f"an axis of {size} cannot be enlarged to {length}")
    return _weights(size, length, 1 / STRIDE)


def _weights(size: int, length: int, step: float) -> Weights:
    """The same where outputs lie `step` inputs apart."""
    position = np.maximum((np.arange(length) + 0.5) * step - 0.5, 0.0)
    low = np.minimum(position.astype(np.int64), size - 1)
    high = np.minimum(low + 1, size - 1)
    return low, high, (position - low).astype(np.float32)


def join_scales(maps: Maps) -> tuple[np.ndarray, np.ndarray]:
    """Lay the maps of all scales row by row, one scale after another.

    Returns:
        float32 [k, n], and uint16 [scales, 2]: rows and columns of each scale's map.
    """
    flat = [one.reshape(len(one), np.prod(one.shape[1:])) for one in maps]
    return np.concatenate(flat, axis=1), np.array([one.shape[1:] for one in maps], np.uint16)


def split_scales(cells: np.ndarray, sizes: np.ndarray) -> Maps:
    """Undo `join_scales`; raises ValueError when cells and sizes do not fit."""
    shapes = [(int(rows), int(columns)) for rows, columns in sizes]
    lengths = [rows * columns for rows, columns in shapes]
    if sum(lengths) != cells.shape[1]:
        raise ValueError(f"{cells.shape[1]} cells for maps of {shapes}")
    split = np.split(cells, np.cumsum(lengths)[:-1], axis=1)
    return tuple(
        part.reshape(len(cells), *shape) for part, shape in zip(split, shapes, strict=True)
    )


def add_scales(maps: Maps, height: int, width: int) -> np.ndarray:
    """Enlarge the maps of all scales bilinearly to one size and add them up, float32 [k, height, width]."""
    total = np.zeros((len(maps[0]), height, width), np.float32)
    for one in maps:
        add_resized(one, total)
    return total
