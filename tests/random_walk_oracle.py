"""The random walk by loops over all pairs of pixels, on a dense matrix."""

import numpy as np


def pixels_between(a: tuple[int, int], b: tuple[int, int]) -> list[tuple[int, int]]:
    """Pixels of the box spanned by a and b whose distance to the line through both is below 1."""
    length = np.hypot(b[0] - a[0], b[1] - a[1])
    found = []
    for y in range(min(a[0], b[0]), max(a[0], b[0]) + 1):
        for x in range(min(a[1], b[1]), max(a[1], b[1]) + 1):
            cross = (b[0] - a[0]) * (x - a[1]) - (b[1] - a[1]) * (y - a[0])
            if abs(cross) / length < 1 - 1e-9:
                found.append((y, x))
    return found


def dense_transition(edge: np.ndarray, radius: float, beta: float) -> np.ndarray:
    """Pixels × pixels, columns sum to 1, by loops over all pairs."""
    height, width = edge.shape
    places = [(y, x) for y in range(height) for x in range(width)]
    affinity = np.zeros((len(places), len(places)))
    for i, a in enumerate(places):
        for j, b in enumerate(places):
            distance = (a[0] - b[0]) ** 2 + (a[1] - b[1]) ** 2
            if i == j:
                affinity[i, j] = 1
            elif distance < radius**2:
                affinity[i, j] = 1 - max(edge[p] for p in pixels_between(a, b))
    weights = affinity**beta
    return weights / weights.sum(axis=0, keepdims=True)


def dense_propagation(activations: np.ndarray, edge: np.ndarray, times: int = 8) -> np.ndarray:
    matrix = dense_transition(edge, 5, 10.0)
    for _ in range(times):
        matrix = matrix @ matrix
    start = (activations * (1 - edge)).reshape(len(activations), -1)
    return (start @ matrix).reshape(activations.shape)
