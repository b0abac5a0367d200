"""The permutohedral lattice: sparse high-dimensional Gaussian filtering.

Adams, Baek & Davis, "Fast High-Dimensional Filtering Using the Permutohedral Lattice", 2010. A point
with d features lies in a simplex of d + 1 lattice vertices. Filtering splats values onto the vertices
with barycentric weights, blurs them along the lattice's d + 1 axes and slices them back.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from workflow_scripts.refinement import vertex_rows
from workflow_scripts.refinement.vertex_keys import find_neighbours, mixed_radix, number_vertices


@dataclass(frozen=True, slots=True)
class Lattice:
    """The lattice over N points with d features.

    Splatted values lie in a table in the order in which points meet the vertices, so that points that
    are near use rows that are near. The blur sorts them by key, so that neighbours are near.

    Attributes:
        vertices: int32[N, d + 1], the table's rows of the vertices around each point.
        weights: float32[N, d + 1], barycentric weights; each row adds up to 1.
        rows: int32[M], the table's row of each vertex in sorted order.
        neighbours: int32[d + 1, M, 2], the two neighbours of each sorted vertex along each axis,
            counted from 1; 0 where there is none.
        first: The table's first row that belongs to this lattice.
    """

    vertices: NDArray[np.int32]
    weights: NDArray[np.float32]
    rows: NDArray[np.int32]
    neighbours: NDArray[np.int32]
    first: int

    @property
    def size(self) -> int:
        """Number of vertices M."""
        return self.rows.size

    @property
    def gain(self) -> float:
        """Factor that the blur lacks to be a Gaussian's (Adams et al. 2010, section 4)."""
        return 1.0 / (1.0 + 2.0 ** (1 - self.vertices.shape[1]))


def build(features: NDArray[np.float32], first: int = 0, padded: int | None = None) -> Lattice:
    """The lattice of N points; the Gaussian has standard deviation 1 in every feature.

    Args:
        features: float32[d, N].
        first: Row that the vertices' part of the table begins with.
        padded: Number of points to leave room for; the added ones weigh nothing.
    """
    d, n = features.shape
    vertices = np.full((padded or n, d + 1), first, np.int32)
    weights = np.zeros((padded or n, d + 1), np.float32)
    base = mixed_radix(features.min(axis=1), features.max(axis=1))
    if base is None:
        neighbours = vertex_rows.number_vertices(features, vertices[:n], weights[:n])
        rows = np.arange(neighbours.shape[1])
    else:
        keys = number_vertices(features, base, vertices[:n], weights[:n])
        rows = np.argsort(keys)
        neighbours = find_neighbours(keys[rows], base)
    vertices[:n] += np.int32(first)
    return Lattice(vertices, weights, (rows + first).astype(np.int32), neighbours, first)
