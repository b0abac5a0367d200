"""Pairs of pixels within a radius, the straight path between the two, and the largest edge on it.

Two pixels belong together when no class boundary lies between them. Ahn, Cho & Kwak (CVPR 2019,
section 3.2) measure that by the largest edge on the line from one to the other: affinity = 1 - that.
Each pair is taken once, from the pixel above (or, in one row, from the left), so that the
displacements from a pixel to its partners fill half a disc.
"""

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True)
class Path:
    """A displacement (dy, dx), dy >= 0, and the pixels on the way, relative to its start.

    `pixels` holds both ends, and every pixel of the box between them whose centre lies less than one
    pixel from the line: a path has no gap through which a thin diagonal boundary could slip.
    """

    dy: int
    dx: int
    pixels: tuple[tuple[int, int], ...]


@lru_cache
def half_disc(radius: int) -> tuple[Path, ...]:
    """Return the paths to all later pixels at a distance below `radius`: row by row, from the left.

    For radius 5 there are 34, for radius 10 there are 152.
    """
    reach = range(1 - radius, radius)
    ends = [
        (dy, dx)
        for dy in range(radius)
        for dx in reach
        if 0 < dy * dy + dx * dx < radius * radius and (dy > 0 or dx > 0)
    ]
    return tuple(Path(dy, dx, _pixels(dy, dx)) for dy, dx in ends)


def _pixels(dy: int, dx: int) -> tuple[tuple[int, int], ...]:
    """Pixels (y, x) of the box from (0, 0) to (dy, dx) less than one pixel off the diagonal."""
    columns = range(min(0, dx), max(0, dx) + 1)
    squared_length = dy * dy + dx * dx
    return tuple(
        (y, x)
        for y in range(dy + 1)
        for x in columns
        if (dy * x - dx * y) ** 2 < squared_length  # |cross product| = distance × length
    )


def largest_on_path(edge: Tensor, path: Path) -> Tensor:
    """Return the largest edge on the path, for every start whose path lies inside the map.

    Args:
        edge: Float [..., h, w].
        path: Where to go.

    Returns:
        Float [..., h - dy, w - |dx|], empty if the map is smaller than the displacement. Element
        (i, j) belongs to the path that starts at row i, column j + max(0, -dx).
    """
    height = max(0, edge.shape[-2] - path.dy)
    width = max(0, edge.shape[-1] - abs(path.dx))
    left = max(0, -path.dx)
    largest: Tensor | None = None
    for y, x in path.pixels:
        shifted = edge[..., y : y + height, left + x : left + x + width]
        largest = shifted if largest is None else torch.maximum(largest, shifted)
    assert largest is not None
    return largest


def pair_starts(values: Tensor, radius: int) -> Tensor:
    """Crop [..., h, w] to the pixels from which the whole half disc lies inside the map.

    Returns [..., h - r, w - 2 r], r = radius - 1: rows from the top, columns from r.
    """
    reach = radius - 1
    return values[..., : values.shape[-2] - reach, reach : values.shape[-1] - reach]


def pair_ends(values: Tensor, radius: int) -> Tensor:
    """Gather for each pixel of `pair_starts` the values at its partners.

    Returns [..., P, h - r, w - 2 r] for the P paths of `half_disc(radius)`, r = radius - 1.
    """
    return torch.stack([_shift(values, p.dy, p.dx, radius) for p in half_disc(radius)], dim=-3)


def _shift(values: Tensor, dy: int, dx: int, radius: int) -> Tensor:
    reach = radius - 1
    height, width = values.shape[-2] - reach, values.shape[-1] - 2 * reach
    return values[..., dy : dy + height, reach + dx : reach + dx + width]


class _PathMaxima(torch.autograd.Function):
    """Largest edge on every path of a half disc, with the gradient to the pixel that is largest.

    Only the position on the path is kept for the backward pass, one byte a pair, in place of all
    edges on all paths. No scattered additions: the gradient has the same bits on every run.
    """

    @staticmethod
    def forward(ctx: Any, edge: Tensor, radius: int) -> Tensor:
        starts = pair_starts(edge, radius)
        shape = (*starts.shape[:-2], len(half_disc(radius)), *starts.shape[-2:])
        largest = edge.new_empty(shape)
        where = torch.empty(shape, dtype=torch.uint8, device=edge.device)
        for number, path in enumerate(half_disc(radius)):
            on_path = torch.stack([_shift(edge, y, x, radius) for y, x in path.pixels])
            value, position = on_path.max(dim=0)
            largest[..., number, :, :] = value
            where[..., number, :, :] = position
        ctx.save_for_backward(where)
        ctx.edge_shape, ctx.radius = edge.shape, radius
        return largest

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        (where,) = ctx.saved_tensors
        (gradient,) = gradients
        result = gradient.new_zeros(ctx.edge_shape)
        for number, path in enumerate(half_disc(ctx.radius)):
            position, share = where[..., number, :, :], gradient[..., number, :, :]
            for index, (y, x) in enumerate(path.pixels):
                _shift(result, y, x, ctx.radius).add_(torch.where(position == index, share, 0))
        return result, None


def path_affinities(edge: Tensor, radius: int) -> Tensor:
    """Return 1 - the largest edge on each path that starts where the whole half disc fits.

    Args:
        edge: Probability of a boundary, float [B, h, w].
        radius: Pairs are closer than this (pixels of the map).

    Returns:
        Float [B, P, h - r, w - 2 r] with the P paths of `half_disc(radius)`, r = radius - 1,
        differentiable with respect to `edge`.

    Raises:
        ValueError: The map is too small for the radius.
    """
    reach = radius - 1
    if edge.shape[-2] <= reach or edge.shape[-1] <= 2 * reach:
        raise ValueError(f"a map of {tuple(edge.shape[-2:])} is too small for radius {radius}")
    return 1 - _PathMaxima.apply(edge, radius)
