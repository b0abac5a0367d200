"""Class activation maps at the resolution at which the network made them, scale by scale.

The map of stride 4, which boundaries spread, and the one of full size, which thresholds cut into labels,
are sums of the same few maps of stride 16, enlarged in two ways. So neither is stored: what they are
made of is smaller than either, and gives both to the last pixel.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, Self

import numpy as np

from workflow_scripts.storage.enlargement import resize, strided_size
from workflow_scripts.storage.full_map import FullMap

# Stride of the feature map: where the image's size is no multiple of it, maps are enlarged to one that
# is and then cropped, so that cells keep their place.
CELL = 16


class StoredMaps(NamedTuple):
    """What a shard holds of one image.

    Attributes:
        cells: float16 [k, n]: the maps of all scales, row by row, one scale after another, 0…1.
        sizes: uint16 [scales, 2]: rows and columns of each scale's map.
        peaks: float32 [k]: what a channel's cells are multiplied by.
    """

    cells: np.ndarray
    sizes: np.ndarray
    peaks: np.ndarray


@dataclass(frozen=True)
class MultiScaleMaps(FullMap):
    """Maps float32 [k, h, w] ≥ 0, one for each scale, of an image of height × width pixels."""

    names = StoredMaps._fields

    maps: tuple[np.ndarray, ...]
    height: int
    width: int

    def activation(self) -> np.ndarray:
        """The map of full size, float32 [k, H, W] in 0…1."""
        rounded = (-(-side // CELL) * CELL for side in (self.height, self.width))
        return normalise_by_maximum(self._total(*rounded)[:, : self.height, : self.width])

    def strided(self) -> np.ndarray:
        """The map of stride 4, float32 [k, ceil(H/4), ceil(W/4)] in 0…1."""
        return normalise_by_maximum(self._total(*strided_size(self.height, self.width)))

    def _total(self, height: int, width: int) -> np.ndarray:
        first, *others = (resize(one, height, width) for one in self.maps)
        for other in others:
            first += other
        return first

    def stored(self) -> StoredMaps:
        """See `FullMap`."""
        sizes = np.array([one.shape[1:] for one in self.maps], np.uint16)
        flat = [one.reshape(len(one), np.prod(one.shape[1:])) for one in self.maps]
        cells = np.concatenate(flat, axis=1)
        peaks = cells.max(axis=1).astype(np.float32)
        share = cells / np.maximum(peaks, np.finfo(np.float32).tiny)[:, None]
        return StoredMaps(share.astype(np.float16), sizes, peaks)

    @classmethod
    def restored(cls, parts: Sequence[np.ndarray], height: int, width: int) -> Self:
        """See `FullMap`; `parts` are those of `StoredMaps`."""
        stored = StoredMaps(*parts)
        cells = stored.cells * stored.peaks[:, None]
        sizes = [(int(rows), int(columns)) for rows, columns in stored.sizes]
        lengths = [rows * columns for rows, columns in sizes]
        if sum(lengths) != cells.shape[1]:
            raise ValueError(f"{cells.shape[1]} cells for maps of {sizes}")
        split = np.split(cells, np.cumsum(lengths)[:-1], axis=1)
        maps = (part.reshape(len(cells), *size) for part, size in zip(split, sizes, strict=True))
        return cls(tuple(maps), height, width)


def normalise_by_maximum(activations: np.ndarray) -> np.ndarray:
    """Each channel divided by its maximum (+1e-5): [k, h, w] → [k, h, w] in 0…1."""
    return activations / (activations.max(axis=(1, 2), keepdims=True) + np.float32(1e-5))
