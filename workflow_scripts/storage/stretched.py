"""AMN's activations of full size, in the space of one map of stride 4 and a few hundred bytes.

They are probabilities where the image's seed is background, and jump to probabilities stretched over
0…1 where it is not: at stride 4, pixels along every border of the seed would change sides. What is
smooth are the log-odds of the probabilities, averages of enlarged logits that they are. So these are
stored at stride 4, and beside them the region of the seed, pixel by pixel.
"""

import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, Self

import numpy as np

from workflow_scripts.storage.enlargement import enlarge, reduce
from workflow_scripts.storage.full_map import FullMap

_STEPS = float(np.iinfo(np.uint16).max)
# Log-odds of a probability that float32 still tells from 0 and 1.
_MOST = 16.0


class StoredStretch(NamedTuple):
    """What a shard holds of one image.

    Attributes:
        log_odds: uint16 [k, ceil(H/4), ceil(W/4)], from the lowest (0) to the highest (65535) of a channel.
        scales: float32 [k, 4]: the lowest and the highest log-odds, `low` and `gain` (see below).
        inside: The region, uint8 [n]: a bit a pixel, row by row, zlib-compressed.
    """

    log_odds: np.ndarray
    scales: np.ndarray
    inside: np.ndarray


@dataclass(frozen=True)
class StretchedProbabilities(FullMap):
    """A map p of an image, read as (p - low) * gain in a region and as p outside.

    Attributes:
        probabilities: float32 [k, H, W] in 0…1.
        inside: bool [H, W], the region.
        low: float32 [k], what becomes 0 there.
        gain: float32 [k], ≥ 0.
    """

    names = StoredStretch._fields

    probabilities: np.ndarray
    inside: np.ndarray
    low: np.ndarray
    gain: np.ndarray

    @property
    def height(self) -> int:  # type: ignore[override]
        """Rows of the image."""
        return self.inside.shape[0]

    @property
    def width(self) -> int:  # type: ignore[override]
        """Columns of the image."""
        return self.inside.shape[1]

    def activation(self) -> np.ndarray:
        """See `FullMap`."""
        stretched = (self.probabilities - self.low[:, None, None]) * self.gain[:, None, None]
        return np.clip(np.where(self.inside, stretched, self.probabilities), 0, 1)

    def stored(self) -> StoredStretch:
        """See `FullMap`."""
        with np.errstate(divide="ignore"):
            odds = np.log(self.probabilities) - np.log1p(-self.probabilities)
        small = reduce(np.clip(odds, -_MOST, _MOST))
        lowest, highest = small.min(axis=(1, 2)), small.max(axis=(1, 2))
        spread = np.maximum(highest - lowest, np.finfo(np.float32).tiny)
        steps = (small - lowest[:, None, None]) * (_STEPS / spread[:, None, None])
        packed = zlib.compress(np.packbits(self.inside).tobytes(), 9)
        return StoredStretch(
            np.rint(steps).astype(np.uint16),
            np.stack([lowest, highest, self.low, self.gain], axis=1).astype(np.float32),
            np.frombuffer(packed, np.uint8),
        )

    @classmethod
    def restored(cls, parts: Sequence[np.ndarray], height: int, width: int) -> Self:
        """See `FullMap`; `parts` are those of `StoredStretch`."""
        stored = StoredStretch(*parts)
        lowest, highest, low, gain = stored.scales.T
        step = (highest - lowest) / np.float32(_STEPS)
        odds = stored.log_odds * step[:, None, None] + lowest[:, None, None]
        probabilities = 1 / (1 + np.exp(-enlarge(odds, height, width)))
        try:
            bits = np.frombuffer(zlib.decompress(stored.inside.tobytes()), np.uint8)
        except zlib.error as error:
            raise ValueError(f"the region cannot be unpacked: {error}") from None
        if len(bits) != -(-height * width // 8):
            raise ValueError(f"the region is not one of {width}×{height} pixels")
        inside = np.unpackbits(bits, count=height * width).astype(bool).reshape(height, width)
        return cls(probabilities, inside, low, gain)
