"""Multi-scale inference of large photographs in bounded memory: the network sees overlapping tiles.

Where tiles meet, each cell of a map is taken from the tile that sees most around it, so that maps differ from
those of the whole image only by what lies further away than the overlap. Tiles begin at multiples of the
network's stride: cells lie where they would lie in the whole image.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from workflow_scripts.datasets.transforms import normalise
from workflow_scripts.models.feature_maps import Backbone

# Pixels above which an image is seen in tiles.
LARGE = 2048**2
# Tiles begin at multiples of this, which the usual strides divide.
UNIT = 128
_UNITS_OF_TILE, _UNITS_OF_OVERLAP = 12, 2


@dataclass(frozen=True, slots=True)
class Tile:
    """Part of an axis, in pixels: what is seen, and the core of it whose result counts."""

    seen: slice
    core: slice

    @property
    def inside(self) -> slice:
        """The core, counted from where the tile begins."""
        return slice(self.core.start - self.seen.start, self.core.stop - self.seen.start)


def tiles(length: int, unit: int) -> list[Tile]:
    """Tiles of an axis whose cores follow upon each other.

    Tiles begin at multiples of `unit`, and their lengths leave the same rest as the whole: then paddings that
    depend on the size (TensorFlow's "same") are those of the whole, on both sides.
    """
    size, overlap = _UNITS_OF_TILE * unit + length % unit, _UNITS_OF_OVERLAP * unit
    found = []
    start = core = 0
    while start + size < length:
        end = start + size - length % unit - overlap
        found.append(Tile(slice(start, start + size), slice(core, end)))
        start, core = end - overlap, end
    return [*found, Tile(slice(start, length), slice(core, length))]


@torch.inference_mode()
def maps_in_tiles(
    image: np.ndarray,
    scales: Sequence[float],
    backbone: Backbone,
    maps_of: Callable[[Tensor], Tensor],
    device: torch.device,
    flip: bool = True,
) -> list[Tensor]:
    """As `maps_at_scales`, tile by tile."""
    unit = backbone.stride * -(-UNIT // backbone.stride)
    merged = []
    for scale in scales:
        height, width = (max(1, round(side * scale)) for side in image.shape[:2])
        strips = []
        for rows in tiles(height, unit):
            parts = []
            for columns in tiles(width, unit):
                seen = _view(image, (height, width), rows.seen, columns.seen)
                view = torch.from_numpy(normalise(seen, backbone.mean, backbone.std))
                batch = torch.stack([view, view.flip(-1)]) if flip else view[None]
                maps = maps_of(
                    batch.to(device).contiguous(memory_format=torch.channels_last)
                ).float()
                maps = maps[:1] + maps[1:].flip(-1) if flip else maps
                parts.append(_core(maps, rows, columns, unit))
            strips.append(torch.cat(parts, dim=3))
        merged.append(torch.cat(strips, dim=2))
    return merged


def _view(image: np.ndarray, size: tuple[int, int], rows: slice, columns: slice) -> np.ndarray:
    """Part of an image uint8 [H, W, 3] as it is after a bicubic resize to `size`."""
    if size == image.shape[:2]:
        return image[rows, columns]
    down, across = image.shape[0] / size[0], image.shape[1] / size[1]
    box = (columns.start * across, rows.start * down, columns.stop * across, rows.stop * down)
    shape = (columns.stop - columns.start, rows.stop - rows.start)
    resized = Image.fromarray(image).resize(shape, Image.Resampling.BICUBIC, box)
    return np.asarray(resized)


def _core(maps: Tensor, rows: Tile, columns: Tile, unit: int) -> Tensor:
    """The cells [1, K, h, w] of a tile that count."""
    cells = []
    for tile, count in ((rows, maps.shape[2]), (columns, maps.shape[3])):
        length = tile.seen.stop - tile.seen.start
        # Sizes of maps are rounded up, so that the stride is the one that gives as many cells.
        strides = [pixels for pixels in range(1, unit + 1) if unit % pixels == 0]
        per_unit = unit // min(strides, key=lambda pixels: abs(-(-length // pixels) - count))
        first = tile.inside.start // unit * per_unit
        last = count if tile.core.stop == tile.seen.stop else tile.inside.stop // unit * per_unit
        cells.append(slice(first, last))
    return maps[:, :, cells[0], cells[1]]


@torch.inference_mode()
def add_resized_part(
    maps: Sequence[Tensor], size: tuple[int, int], rows: slice, columns: slice
) -> Tensor:
    """Part of what `add_resized` gives.

    Args:
        maps: float32 [1, K, h', w'] of each scale.
        size: Rows and columns of the whole.
        rows: The part's rows.
        columns: Its columns.

    Returns:
        float32 [K, rows, columns].
    """
    total: Tensor | None = None
    for one in maps:
        part = _interpolated(one[0], 1, size[0], rows)
        part = _interpolated(part, 2, size[1], columns)
        total = part if total is None else total.add_(part)
    assert total is not None
    return total


def _interpolated(maps: Tensor, axis: int, length: int, part: slice) -> Tensor:
    """Linear interpolation of an axis to `length`, of which only a part is made."""
    cells = maps.shape[axis]
    wanted = torch.arange(part.start, part.stop, device=maps.device, dtype=torch.float32)
    place = ((wanted + 0.5) * (cells / length) - 0.5).clamp(0, cells - 1)
    low = place.floor().long()
    high = (low + 1).clamp(max=cells - 1)
    shape = [1, 1, 1]
    shape[axis] = -1
    weight = (place - low).reshape(shape)
    return torch.lerp(maps.index_select(axis, low), maps.index_select(axis, high), weight)
