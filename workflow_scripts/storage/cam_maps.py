"""Class activation maps of an image."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, Self

import numpy as np

from workflow_scripts.storage.activation_maps import ActivationMaps
from workflow_scripts.storage.enlargement import strided_size
from workflow_scripts.storage.scales import Maps, add_scales, join_scales, split_scales

# Stride of the feature map: where the image's size is no multiple of it, maps are enlarged to one that
# is and then cropped, so that cells keep their place.
CELL = 16


class StoredCam(NamedTuple):
    """What a shard holds of one image.

    Attributes:
        cells: float16 [k, n]: the maps of all scales (see `join_scales`), 0…1.
        sizes: uint16 [1 + scales, 2]: of the image, and of each scale's map.
        peaks: float32 [k]: what a channel's cells are multiplied by.
    """

    cells: np.ndarray
    sizes: np.ndarray
    peaks: np.ndarray


@dataclass(frozen=True)
class CamMaps(ActivationMaps):
    """Maps float32 [k, h, w] ≥ 0 of each scale; they are added, and each class divided by its maximum."""

    kind = "cam"
    names = StoredCam._fields

    maps: Maps
    height: int
    width: int

    @property
    def channels(self) -> int:  # type: ignore[override]
        """See `ActivationMaps`."""
        return len(self.maps[0])

    def activation(self) -> np.ndarray:
        """See `ActivationMaps`."""
        rounded = (-(-side // CELL) * CELL for side in (self.height, self.width))
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
        sizes = np.insert(sizes, 0, (self.height, self.width), axis=0)
        return StoredCam(share.astype(np.float16), sizes, peaks)

    @classmethod
    def restored(cls, tensors: Sequence[np.ndarray], height: int, width: int) -> Self:
        """See `ActivationMaps`; `tensors` are those of `StoredCam`."""
        stored = StoredCam(*tensors)
        if (*stored.sizes[0],) != (height, width):
            raise ValueError(f"but of {stored.sizes[0][1]}×{stored.sizes[0][0]}")
        cells = stored.cells * stored.peaks[:, None]
        return cls(split_scales(cells, stored.sizes[1:]), height, width)


def normalise_by_maximum(activations: np.ndarray) -> np.ndarray:
    """Each channel divided by its maximum (+1e-5): [k, h, w] → [k, h, w] in 0…1."""
    return activations / (activations.max(axis=(1, 2), keepdims=True) + np.float32(1e-5))
