"""What a network's activations of an image are made of, before they are stored and after.

The two maps that the published methods use, of stride 4 and of full size, are made of the same few small
maps, one for each image scale, enlarged in two ways: these are stored instead.

`CamMaps` are added and divided by their maximum. `AmnMaps` hold logits: AMN's activations are
probabilities where the image's seed is background, and jump to probabilities stretched over 0…1 where it
is not, so that a map of stride 4 would move pixels along every border of the seed. What is smooth are
logits, which are added up over the scales as they are. The softmax needs those of all classes, but of the
absent ones no more than the logarithm of their summed exponentials. Those that have a share of the image
are kept as they are. A fixed mean of the logits of the others has most of their sum's detail and is added
up like any logit; the rest is smooth enough for a map of stride 4.
"""

import zlib
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from typing import Any, ClassVar, NamedTuple, Self

import numpy as np

from workflow_scripts.storage.shard_files import STRIDE, strided_size

Maps = tuple[np.ndarray, ...]
"""float32 [k, h, w] of each scale."""
Weights = tuple[np.ndarray, np.ndarray, np.ndarray]
_STEPS = np.float32(np.iinfo(np.uint16).max)


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
    _compiled_kernel()(
        np.ascontiguousarray(small, np.float32),
        (y_low, y_high, 1 - y_second, y_second),
        (x_low, x_high, 1 - x_second, x_second),
        large,
    )


@cache
def _compiled_kernel() -> Any:
    # Numba is imported where maps are enlarged, not wherever a network makes some.
    from workflow_scripts.storage.compiled import compiled

    return compiled(_add_interpolated)


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


class ActivationMaps(ABC):
    """The maps of an image at the resolution at which a network made them, scale by scale.

    Attributes:
        kind: What a shard of such maps calls itself.
        names: What the tensors are called that a shard holds, in the order in which `stored` returns them.
        channels: Number of the image's labels, k.
        height: Rows of the image.
        width: Columns of the image.
    """

    kind: ClassVar[str]
    names: ClassVar[tuple[str, ...]]
    channels: int
    height: int
    width: int

    @abstractmethod
    def activation(self) -> np.ndarray:
        """The map of full size, which thresholds cut into labels, float32 [k, H, W] in 0…1."""

    @abstractmethod
    def strided(self) -> np.ndarray:
        """The map of stride 4, which boundaries spread, float32 [k, ceil(H/4), ceil(W/4)] in 0…1."""

    @abstractmethod
    def stored(self) -> tuple[np.ndarray, ...]:
        """Reduce to the tensors that a shard holds."""

    @classmethod
    @abstractmethod
    def restored(cls, tensors: Sequence[np.ndarray], height: int, width: int) -> Self:
        """Put the tensors together for an image of a size; raises ValueError when they do not fit."""

    def as_stored(self) -> Self:
        """Return what comes back from a shard, so that the same pixels cross a threshold."""
        return self.restored(self.stored(), self.height, self.width)


class StoredCam(NamedTuple):
    """What a shard holds of one image.

    Attributes:
        cells: float16 [k, n]: the maps of all scales (see `join_scales`), 0…1.
        sizes: uint16 [2 + scales, 2]: of the image, of a cell in the image, and of each scale's map.
        peaks: float32 [k]: what a channel's cells are multiplied by.
    """

    cells: np.ndarray
    sizes: np.ndarray
    peaks: np.ndarray


@dataclass(frozen=True)
class CamMaps(ActivationMaps):
    """Maps float32 [k, h, w] ≥ 0 of each scale; they are added, and each class divided by its maximum.

    Attributes:
        maps: Of each scale.
        height: Rows of the image.
        width: Columns of the image.
        cell: Pixels in a row and in a column of a cell of the network's features. Where the image's size
            is no multiple of it, maps are enlarged to one that is and then cropped, so that cells keep
            their place.
    """

    kind = "maps divided by their maximum"
    names = StoredCam._fields

    maps: Maps
    height: int
    width: int
    cell: int = 16

    @property
    def channels(self) -> int:  # type: ignore[override]
        """See `ActivationMaps`."""
        return len(self.maps[0])

    def activation(self) -> np.ndarray:
        """See `ActivationMaps`."""
        rounded = (-(-side // self.cell) * self.cell for side in (self.height, self.width))
        total = add_scales(self.maps, *rounded)
        return normalise_by_maximum(total[:, : self.height, : self.width])

    def strided(self) -> np.ndarray:
        """See `ActivationMaps`."""
        return normalise_by_maximum(add_scales(self.maps, *strided_size(self.height, self.width)))

    def stored(self) -> StoredCam:
        """See `ActivationMaps`."""
        cells, sizes = join_scales(self.maps)
        peaks = cells.max(axis=1)
        share = cells / np.maximum(peaks, np.finfo(np.float32).tiny)[:, None]
        own = np.array([(self.height, self.width), (self.cell, self.cell)], np.uint16)
        return StoredCam(share.astype(np.float16), np.concatenate([own, sizes]), peaks)

    @classmethod
    def restored(cls, tensors: Sequence[np.ndarray], height: int, width: int) -> Self:
        """See `ActivationMaps`; `tensors` are those of `StoredCam`."""
        stored = StoredCam(*tensors)
        if (*stored.sizes[0],) != (height, width):
            raise ValueError(f"but of {stored.sizes[0][1]}×{stored.sizes[0][0]}")
        cells = stored.cells * stored.peaks[:, None]
        return cls(split_scales(cells, stored.sizes[2:]), height, width, int(stored.sizes[1][0]))


def normalise_by_maximum(activations: np.ndarray) -> np.ndarray:
    """Each channel divided by its maximum (+1e-5): [k, h, w] → [k, h, w] in 0…1."""
    return activations / (activations.max(axis=(1, 2), keepdims=True) + np.float32(1e-5))


class StoredAmn(NamedTuple):
    """What a shard holds of one image.

    Attributes:
        labels: uint16 [1]: k.
        cells: uint16 [1 + k + e + m, n]: the logits of all scales (see `join_scales`).
        sizes: uint16 [scales, 2].
        ranges: float32 [1 + k + e + m, 2]: what 0 and 65535 stand for in a channel of the cells.
        absent: uint16 [2 m, ceil(H/4), ceil(W/4)]: of `AmnMaps`, the map whose enlargement comes closest
            to `absent`, and `absent_strided`.
        absent_ranges: float32 [2 m, 2]: what 0 and 65535 stand for there.
        inside: The region, uint8 [b]: a bit a pixel, row by row, zlib-compressed.
    """

    labels: np.ndarray
    cells: np.ndarray
    sizes: np.ndarray
    ranges: np.ndarray
    absent: np.ndarray
    absent_ranges: np.ndarray
    inside: np.ndarray


@dataclass(frozen=True)
class AmnMaps(ActivationMaps):
    """Logits of an image, whose sum over the scales a softmax turns into probabilities.

    Attributes:
        channels: Number of the image's labels, k.
        logits: float32 [1 + k + e + m, h, w] of each scale: background, the image's labels, e of the other
            classes, then a mean of those that are left; m is 0 where none is, else 1.
        absent: float32 [m, H, W]: what the logarithm of their summed exponentials exceeds their mean by.
        absent_strided: The same at stride 4, float32 [m, ceil(H/4), ceil(W/4)].
        inside: bool [H, W], where the image's seed is not background: there each channel is min-max
            normalised over the image, elsewhere the probability stays (published code).
    """

    kind = "logits"
    names = StoredAmn._fields

    channels: int
    logits: Maps
    absent: np.ndarray
    absent_strided: np.ndarray
    inside: np.ndarray

    def __post_init__(self) -> None:
        """Raise ValueError where sizes do not fit each other."""
        sizes = self.inside.shape, strided_size(*self.inside.shape)
        if (self.absent.shape[1:], self.absent_strided.shape[1:]) != sizes:
            raise ValueError(
                f"absent classes of {self.absent.shape} and {self.absent_strided.shape} for a seed of"
                f" {self.inside.shape}"
            )

    @property
    def height(self) -> int:  # type: ignore[override]
        """Rows of the image."""
        return self.inside.shape[0]

    @property
    def width(self) -> int:  # type: ignore[override]
        """Columns of the image."""
        return self.inside.shape[1]

    def activation(self) -> np.ndarray:
        """See `ActivationMaps`."""
        logits = add_scales(self.logits, self.height, self.width)
        return mixed_normalisation(self._probabilities(logits, self.absent), self.inside)

    def strided(self) -> np.ndarray:
        """See `ActivationMaps`; the region is reduced by nearest neighbour."""
        size = strided_size(self.height, self.width)
        reduced = self.inside[np.ix_(*map(_nearest, size, self.inside.shape))]
        logits = add_scales(self.logits, *size)
        return mixed_normalisation(self._probabilities(logits, self.absent_strided), reduced)

    def _probabilities(self, logits: np.ndarray, absent: np.ndarray) -> np.ndarray:
        """Of the image's labels, by a softmax over all classes: float32 [k, h, w]."""
        logits[len(logits) - len(absent) :] += absent
        logits -= logits.max(axis=0)
        np.exp(logits, out=logits)
        return logits[1 : 1 + self.channels] / logits.sum(axis=0)

    def stored(self) -> StoredAmn:
        """See `ActivationMaps`."""
        cells, sizes = join_scales(self.logits)
        steps, ranges = _in_steps(cells)
        absent, absent_ranges = _in_steps(
            np.concatenate([reduce(self.absent), self.absent_strided])
        )
        packed = zlib.compress(np.packbits(self.inside).tobytes(), 9)
        inside = np.frombuffer(packed, np.uint8)
        labels = np.array([self.channels], np.uint16)
        return StoredAmn(labels, steps, sizes, ranges, absent, absent_ranges, inside)

    @classmethod
    def restored(cls, tensors: Sequence[np.ndarray], height: int, width: int) -> Self:
        """See `ActivationMaps`; `tensors` are those of `StoredAmn`."""
        stored = StoredAmn(*tensors)
        if stored.absent.shape[1:] != strided_size(height, width):
            raise ValueError(f"its map of stride 4 has the shape {stored.absent.shape}")
        absent, strided = np.split(_of_steps(stored.absent, stored.absent_ranges), 2)
        return cls(
            int(stored.labels[0]),
            split_scales(_of_steps(stored.cells, stored.ranges), stored.sizes),
            enlarge(absent, height, width),
            strided,
            _unpacked(stored.inside, height, width),
        )


def mixed_normalisation(probabilities: np.ndarray, inside: np.ndarray) -> np.ndarray:
    """AMN's activations from its probabilities [k, h, w] and the region bool [h, w], see `AmnMaps`."""
    low = probabilities.min(axis=(1, 2), keepdims=True)
    high = probabilities.max(axis=(1, 2), keepdims=True)
    stretched = (probabilities - low) / (high - low + np.float32(1e-5))
    return np.where(inside, stretched, probabilities)


def _nearest(length: int, full: int) -> np.ndarray:
    """The pixel below the middle of each of `length` equal parts of an axis of `full`."""
    return ((np.arange(length) + 0.5) * full / length).astype(np.int64)


def _in_steps(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """[k, …] → uint16 [k, …] from the lowest (0) to the highest value (65535) of a channel, and both."""
    axes = tuple(range(1, values.ndim))
    low, high = (ends(axis=axes, keepdims=True) for ends in (values.min, values.max))
    spread = np.where(high > low, high - low, 1)
    with np.errstate(invalid="ignore"):  # what is no number shows in the range
        steps = np.rint((values - low) / spread * _STEPS).astype(np.uint16)
    return steps, np.stack([low.ravel(), high.ravel()], axis=1).astype(np.float32)


def _of_steps(steps: np.ndarray, ranges: np.ndarray) -> np.ndarray:
    """Undo `_in_steps`."""
    low, high = (ends.reshape(-1, *[1] * (steps.ndim - 1)) for ends in ranges.T)
    return steps * ((high - low) / _STEPS) + low


def _unpacked(packed: np.ndarray, height: int, width: int) -> np.ndarray:
    """The region, bool [height, width]; raises ValueError when it is damaged or of another size."""
    try:
        bits = np.frombuffer(zlib.decompress(packed.tobytes()), np.uint8)
    except zlib.error as error:
        raise ValueError(f"the region cannot be unpacked: {error}") from None
    if len(bits) != -(-height * width // 8):
        raise ValueError(f"the region is not one of {width}×{height} pixels")
    return np.unpackbits(bits, count=height * width).astype(bool).reshape(height, width)
