"""Gaussian filtering of single numbers on the permutohedral lattice, and normalising with it."""

import numpy as np

from workflow_scripts.refinement.permutohedral import Lattice
from workflow_scripts.storage.compiled import compiled

SMALLEST_MASS = np.float32(1e-20)


@compiled
def _blur(table, rows, neighbours, first):  # type: ignore[no-untyped-def]
    """Blur a table float32[M] of one column along all axes, in place."""
    m = rows.size
    here = np.zeros(m + 1, np.float32)
    there = np.zeros(m + 1, np.float32)
    half = np.float32(0.5)
    for v in range(m):
        here[v + 1] = table[rows[v] - first]
    for j in range(neighbours.shape[0]):
        for v in range(m):
            pair = here[neighbours[j, v, 0]] + here[neighbours[j, v, 1]]
            there[v + 1] = here[v + 1] + half * pair
        here, there = there, here
    for v in range(m):
        table[rows[v] - first] = here[v + 1]


@compiled
def _normalise(vertices, weights, rows, neighbours, first, count, gain):  # type: ignore[no-untyped-def]
    """See `normalise`; `count` points are real, the others only fill the last block."""
    n, corners = vertices.shape
    once = np.zeros(rows.size, np.float32)
    twice = np.zeros(rows.size, np.float32)
    for p in range(count):
        for r in range(corners):
            once[vertices[p, r] - first] += weights[p, r]
    _blur(once, rows, neighbours, first)
    for p in range(count):
        mass = np.float32(0.0)
        for r in range(corners):
            mass += weights[p, r] * once[vertices[p, r] - first]
        norm = np.float32(1.0) / np.sqrt(mass * gain + SMALLEST_MASS)
        for r in range(corners):
            weights[p, r] *= norm
            twice[vertices[p, r] - first] += weights[p, r]
    _blur(twice, rows, neighbours, first)
    constant = np.zeros(n, np.float32)
    for p in range(count):
        total = np.float32(0.0)
        for r in range(corners):
            total += weights[p, r] * twice[vertices[p, r] - first]
        constant[p] = total * gain
    return constant


def normalise(lattice: Lattice, count: int) -> np.ndarray:
    """Make a lattice's kernel symmetrically normalised (Krähenbühl & Koltun 2011, supplement).

    Its weights are divided, in place, by the square root of the filtered constant 1.

    Args:
        lattice: With barycentric weights.
        count: Points that are real; the others fill the last block and stay without weight.

    Returns:
        float32[N], the constant 1 filtered by the normalised kernel.
    """
    parts = (lattice.vertices, lattice.weights, lattice.rows, lattice.neighbours, lattice.first)
    return _normalise(*parts, count, np.float32(lattice.gain))
