"""Numbering the lattice's vertices when their coordinates do not fit a packed key.

Whole coordinate vectors are compared: slow, and needed only by extreme standard deviations.
"""

import numpy as np
from numpy.typing import NDArray

from workflow_scripts.refinement.simplices import BLOCK, elevation, embed


def number_vertices(
    features: NDArray[np.float32],
    vertices: NDArray[np.int32],
    weights: NDArray[np.float32],
) -> NDArray[np.int32]:
    """Fill vertices and barycentric weights; vertices are numbered in lexicographic order.

    Args:
        features: float32[d, N].
        vertices: Filled, int32[N, d + 1], numbers from 0.
        weights: Filled, float32[N, d + 1].

    Returns:
        int32[d + 1, M, 2], the two neighbours along every axis, counted from 1; 0 for none.
    """
    residual, corner, rank = _simplices(features)
    d, n = features.shape
    ordered = np.empty_like(residual)
    np.put_along_axis(ordered, rank.astype(np.int64), residual, axis=0)
    weights[:, 0] = 1 + ordered[d] - ordered[0]
    weights[:, 1:] = np.diff(ordered[::-1], axis=0).T
    remainder = np.arange(d + 1)[:, None, None]
    around = corner[:d] + remainder - (d + 1) * (rank[:d] > d - remainder)
    rows = around.transpose(2, 0, 1).reshape(-1, d)
    known, numbers = np.unique(rows, axis=0, return_inverse=True)
    vertices[:] = numbers.reshape(n, d + 1)
    neighbours = np.zeros((d + 1, len(known), 2), np.int32)
    for j in range(d + 1):
        wanted = known - 1
        if j < d:
            wanted[:, j] += d + 1
        _, both = np.unique(np.concatenate([known, wanted]), axis=0, return_inverse=True)
        here, there = both.reshape(2, -1)
        number = np.zeros(both.max() + 1, np.int32)
        number[here] = np.arange(1, len(known) + 1)
        neighbours[j, :, 0] = number[there]
        found = np.flatnonzero(number[there])
        neighbours[j, number[there[found]] - 1, 1] = found + 1
    return neighbours


def _simplices(
    features: NDArray[np.float32],
) -> tuple[NDArray[np.float32], NDArray[np.int32], NDArray[np.int32]]:
    """Residual, corner and rank of all points, [d + 1, N] each; see `simplices.embed`."""
    d, n = features.shape
    shape = (d + 1, -(-n // BLOCK) * BLOCK)
    residual, corner, rank = np.empty(shape, np.float32), *np.empty((2, *shape), np.int32)
    packed = np.empty(BLOCK, np.int64)
    places = (0,) * (d + 1)
    scale = elevation(d)
    for start in range(0, n, BLOCK):
        e, c, r = (part[:, start : start + BLOCK] for part in (residual, corner, rank))
        embed(features, start, min(BLOCK, n - start), scale, places, e, c, r, packed)
    return residual[:, :n], corner[:, :n], rank[:, :n]
