"""AMN's activations of an image.

They are probabilities where the image's seed is background, and jump to probabilities stretched over
0…1 where it is not: a map of stride 4 would move pixels along every border of the seed. What is smooth
are logits, which are added up over the scales as they are. The softmax needs those of all classes, but of
the absent ones no more than the logarithm of their summed exponentials. Those that have a share of the
image are kept as they are. A fixed mean of the logits of the others has most of their sum's detail and
is added up like any logit; the rest is smooth enough for a map of stride 4.
"""

import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, Self

import numpy as np

from workflow_scripts.storage.activation_maps import ActivationMaps
from workflow_scripts.storage.enlargement import enlarge, reduce, strided_size
from workflow_scripts.storage.scales import Maps, add_scales, join_scales, split_scales

_STEPS = np.float32(np.iinfo(np.uint16).max)


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

    kind = "amn"
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
