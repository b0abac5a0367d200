"""Pixel-adaptive refinement (PAR): label maps made to agree with the colours of near and far neighbours.

Ru, Zhan, Yu, Du, "Learning Affinity from Attention: End-to-End Weakly-Supervised Semantic Segmentation with
Transformers", CVPR 2022, section 3.4 and equations 10 and 11, with the constants of its published code. It is
local and has no compatibility of labels, so that it costs less than a dense CRF, and runs on any device.
"""

import math
from collections.abc import Iterator, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from workflow_scripts.settings.refinement import ParSettings

# Rows, columns of the eight neighbours.
NEIGHBOURS = tuple((y, x) for y in (-1, 0, 1) for x in (-1, 0, 1) if (y, x) != (0, 0))
_TINY = 1e-8
# Pixels whose affinities are held at once: 48 numbers each.
PART_PIXELS = 1 << 20
# Numbers of the maps that a processor's cache holds beside as many of their neighbours.
CACHED = 1 << 17
# By how much of its whole a sum over all iterations may be off.
ROUNDING = 1e-5


def refine(images: Tensor, maps: Tensor, settings: ParSettings) -> Tensor:
    """Replace each pixel's values by its neighbours', weighed by affinity, as often as there are iterations.

    The affinity of a pixel i to its neighbour j is softmax over j of −(|I_i − I_j| / (w₁ σ))², averaged over
    the colours, plus w₂ times softmax of −(|p_i − p_j| / (w₁ σ_p))²; σ is the standard deviation over the
    neighbours. Beyond the border the image's last pixels go on. Large images are refined in bands of rows,
    wide ones in tiles, that overlap as far as any value can travel: the result is the same but for rounding.

    Args:
        images: float [B, 3, H, W]; the scale of the colours does not matter.
        maps: float [B, L, H, W] on the same device.
        settings: Dilations, iterations, w₁ and w₂.

    Returns:
        float [B, L, H, W]; each iteration multiplies the sum over labels by 1 + w₂.
    """
    height, width = maps.shape[-2:]
    reach = settings.iterations * max(settings.dilations)
    if not settings.iterations:
        return maps
    rows, columns = _parts(height, width, PART_PIXELS // len(images), reach)
    bands = []
    for first in range(0, height, rows):
        down = _Span(first, rows, height, reach)
        parts = []
        for left in range(0, width, columns):
            across = _Span(left, columns, width, reach)
            seen = (..., down.seen, across.seen)
            part = _refine(images[seen], maps[seen], settings)
            parts.append(part[..., down.kept, across.kept])
        bands.append(torch.cat(parts, dim=-1))
    return torch.cat(bands, dim=-2)


def _parts(height: int, width: int, pixels: int, reach: int) -> tuple[int, int]:
    """Rows and columns of the parts that an image is refined in, each seen with a margin of `reach` around.

    Bands where they are at least as high as tiles would be, so that what is computed is never much more than
    what is kept: at most four times as much, where tiles are twice as large as the margin.
    """
    if height * width <= pixels:
        return height, width
    side = max(2 * reach, math.isqrt(pixels) - 2 * reach)
    rows = pixels // width - 2 * reach
    return (rows, width) if rows >= side else (side, side)


class _Span:
    """Rows or columns of a part: `seen` of the image, and `kept` of what is seen."""

    def __init__(self, first: int, count: int, size: int, reach: int) -> None:
        start = max(0, first - reach)
        self.seen = slice(start, min(size, first + count + reach))
        self.kept = slice(first - start, min(size, first + count) - start)


def _refine(images: Tensor, maps: Tensor, settings: ParSettings) -> Tensor:
    weights = _affinities(images, settings)
    rows, height = _cached_rows(maps), maps.shape[-2]
    for _ in range(settings.iterations):
        neighbours, total = _Neighbours(maps, settings), torch.zeros_like(maps)
        for first in range(0, height, rows):
            band = slice(first, min(height, first + rows))
            for neighbour, weight in zip(neighbours.of(band), weights, strict=True):
                total[..., band, :].addcmul_(neighbour, weight[..., band, :])
        maps = total
    return maps


def _cached_rows(maps: Tensor) -> int:
    """Rows that are summed over all neighbours before the next ones: on a CPU they stay in its cache."""
    if maps.device.type != "cpu":
        return maps.shape[-2]
    return max(1, CACHED // maps[..., 0, :].numel())


class _Neighbours:
    """Values [B, C, H, W] moved by the offset of each neighbour, dilation by dilation."""

    def __init__(self, values: Tensor, settings: ParSettings) -> None:
        self._height, self._width = values.shape[-2:]
        self._margin = max(settings.dilations)
        self._padded = F.pad(values, [self._margin] * 4, mode="replicate")
        self._offsets = _offsets(settings)

    def of(self, band: slice | None = None) -> Iterator[Tensor]:
        """Yield the values of each neighbour of the pixels in some rows, or in all."""
        first, stop, _ = (band or slice(None)).indices(self._height)
        for y, x in self._offsets:
            top, left = self._margin + y, self._margin + x
            yield self._padded[..., top + first : top + stop, left : left + self._width]


def _offsets(settings: ParSettings) -> list[tuple[int, int]]:
    """Rows and columns from a pixel to its neighbours."""
    return [(d * y, d * x) for d in settings.dilations for y, x in NEIGHBOURS]


def _affinities(images: Tensor, settings: ParSettings) -> Tensor:
    """Weights [N, B, 1, H, W] of a pixel's N neighbours."""
    neighbours = _Neighbours(images, settings)
    count, total, squares = 0, torch.zeros_like(images), torch.zeros_like(images)
    # Differences from the pixel itself: their deviation is the neighbours', and they cancel nothing large.
    for neighbour in neighbours.of():
        difference = neighbour - images
        total += difference
        squares.addcmul_(difference, difference)
        count += 1
    variance = (squares - total**2 / count).clamp_min(0) / (count - 1)
    scale = settings.w1 * (variance.sqrt() + _TINY)
    exponents = torch.stack(
        [
            -(((neighbour - images) / scale) ** 2).mean(dim=1, keepdim=True)
            for neighbour in neighbours.of()
        ]
    )
    positions = _position_affinities(settings).to(images)
    return exponents.softmax(dim=0).add_(settings.w2 * positions.view(-1, 1, 1, 1, 1))


def _position_affinities(settings: ParSettings) -> Tensor:
    """Softmax over the neighbours by their distance alone, float64 [N]."""
    distances = torch.tensor(_offsets(settings), dtype=torch.float64).norm(dim=1)
    return (-((distances / (settings.w1 * (distances.std() + _TINY))) ** 2)).softmax(dim=0)


def refined_by_par(
    image: np.ndarray,
    activations: np.ndarray,
    thresholds: Sequence[float | np.ndarray],
    settings: ParSettings,
) -> np.ndarray:
    """Labels at several thresholds, refined together.

    As published, the threshold is the map of the background, and the softmax over background and activations
    is refined; the largest value is the label.

    Args:
        image: uint8 [H, W, 3].
        activations: float [k, H, W] in 0…1.
        thresholds: T background thresholds, each a number, or float [k]: the winner's counts.
        settings: Of the refinement.

    Returns:
        uint8 [T, H, W] in 0…k.
    """
    labels, size = len(activations) + 1, activations.shape[1:]
    if labels == 1 or not len(thresholds):
        return np.zeros((len(thresholds), *size), np.uint8)
    with torch.inference_mode():
        colours = torch.from_numpy(image).permute(2, 0, 1)[None].float()
        maps = torch.empty(len(thresholds), labels, *size)
        maps[:, 1:] = torch.from_numpy(np.ascontiguousarray(activations, np.float32))
        for one, threshold in zip(maps, thresholds, strict=True):
            each = torch.as_tensor(threshold, dtype=torch.float32)
            one[0] = each if each.ndim == 0 else each[one[1:].argmax(dim=0)]
        # No map sees another, so that those of all thresholds share the affinities. The shares of a pixel
        # add up to the same everywhere, so that what is left is the background's. It has ties.
        shares = maps.softmax(dim=1)
        objects = refine(colours, shares[:, 1:].reshape(1, -1, *size), settings)
        maps[:, 1:] = objects.view(-1, labels - 1, *size)
        total = (1 + settings.w2) ** settings.iterations
        maps[:, 0] = (1 + ROUNDING) * total - maps[:, 1:].sum(dim=1)
        return maps.argmax(dim=1).to(torch.uint8).numpy()
