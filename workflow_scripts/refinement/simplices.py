"""Which simplex of the permutohedral lattice a point lies in, and where in it.

Adams, Baek & Davis, "Fast High-Dimensional Filtering Using the Permutohedral Lattice", 2010, section
4: features are elevated onto the hyperplane x₀ + … + x_d = 0 of d + 1 dimensions, in which the lattice's
vertices are points of integers all congruent modulo d + 1 (their remainder).
"""

import numpy as np
from numpy.typing import NDArray

from workflow_scripts.storage.compiled import compiled

BLOCK = 128


def elevation(d: int) -> NDArray[np.float32]:
    """Scales float32[d] of features before the rotation onto the hyperplane.

    With them the blur of the lattice has variance 1 in every feature.
    """
    axis = np.arange(1, d + 1, dtype=np.float64)
    return (np.sqrt(2.0 / 3.0) * (d + 1) / np.sqrt(axis * (axis + 1))).astype(np.float32)


@compiled
def embed(features, start, count, scale, base, residual, corner, rank, packed):  # type: ignore[no-untyped-def]
    """The remainder-0 vertex of a block of points' simplices and the order of their residuals.

    Works coordinate by coordinate, so that the loops over points become vector code.

    Args:
        features: float32[d, N].
        start, count: The block's points, at most BLOCK.
        scale: float32[d], from `elevation`.
        base: d + 1 place values, a tuple.
        residual: Filled, float32[d + 1, BLOCK], elevated point minus vertex, in units of d + 1.
        corner: Filled, int32[d + 1, BLOCK], the vertex.
        rank: Filled, int32[d + 1, BLOCK], 0 for the largest residual to d for the smallest.
        packed: Filled, int64[BLOCK], the vertex in place values.
    """
    d = features.shape[0]
    total = residual[0]
    surplus = np.zeros(BLOCK, np.int32)
    down = np.float32(1.0 / (d + 1))
    for b in range(count):
        total[b] = 0
        packed[b] = 0
    for j in range(d, 0, -1):
        row = features[j - 1]
        out = residual[j]
        factor = scale[j - 1]
        lift = np.float32(j)
        for b in range(count):
            c = row[start + b] * factor
            out[b] = total[b] - lift * c
            total[b] += c
    for i in range(d + 1):
        e, near, r = residual[i], corner[i], rank[i]
        for b in range(count):
            nearest = np.int32(np.floor(down * e[b] + np.float32(0.5)))
            near[b] = nearest * np.int32(d + 1)
            surplus[b] += nearest
            e[b] -= np.float32(near[b])
            r[b] = 0
    for i in range(d):
        for j in range(i + 1, d + 1):
            left, right, ri, rj = residual[i], residual[j], rank[i], rank[j]
            for b in range(count):
                smaller = np.int32(left[b] < right[b])
                ri[b] += smaller
                rj[b] += np.int32(1) - smaller
    for i in range(d + 1):
        e, near, r, place = residual[i], corner[i], rank[i], base[i]
        for b in range(count):
            k = r[b] + surplus[b]
            turn = np.int32(d + 1) * (np.int32(k < 0) - np.int32(k > d))
            r[b] = k + turn
            near[b] += turn
            e[b] = (e[b] - np.float32(turn)) * down
            packed[b] += near[b] * place
