"""Random walk over boundaries: 256 sparse products against a dense matrix squared eight times.

The reference is the usual formulation: the matrix of all pairs of pixels of the stride-4 map, float32,
squared eight times on all cores. One squaring is timed and taken times 8, since all eight cost the same.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from tools.benchmarks.comparison import Comparison, timed_pair
from workflow_scripts.models.boundary import half_disc, largest_on_path
from workflow_scripts.refinement.random_walk import propagate

HEIGHT, WIDTH, CLASSES = 125, 94, 2
RADIUS, BETA, SQUARINGS = 5, 10.0, 8


def sample(height: int = HEIGHT, width: int = WIDTH) -> tuple[Tensor, Tensor]:
    """Activations [2, h, w] and an edge map [h, w] with regions and blurred boundaries, seeded."""
    generator = torch.Generator().manual_seed(0)

    def smooth(channels: int, cell: int) -> Tensor:
        coarse = torch.randn(
            1, channels, height // cell + 2, width // cell + 2, generator=generator
        )
        return F.interpolate(coarse, (height, width), mode="bicubic", align_corners=False)[0]

    activations = torch.sigmoid(3 * smooth(CLASSES, 24))
    edge = torch.exp(-((8 * smooth(1, 16)[0]) ** 2)) * 0.95 + 0.02
    return activations, edge


def dense_transition(edge: Tensor) -> Tensor:
    """Transition matrix of all pairs of pixels, [h · w, h · w], columns sum to 1."""
    height, width = edge.shape
    numbers = torch.arange(height * width).reshape(height, width)
    matrix = torch.eye(height * width)
    for path in half_disc(RADIUS):
        affinity = (1 - largest_on_path(edge, path)) ** BETA
        left = max(0, -path.dx)
        rows, columns = affinity.shape
        start = numbers[:rows, left : left + columns].flatten()
        end = start + path.dy * width + path.dx
        matrix[start, end] = matrix[end, start] = affinity.flatten()
    return matrix.div_(matrix.sum(dim=0, keepdim=True))


def dense_result(activations: Tensor, edge: Tensor, matrix: Tensor) -> Tensor:
    """What the squared matrix gives: the matrix applied 256 times, which is the same, [2, h, w]."""
    scores = (activations * (1 - edge)).flatten(1)
    for _ in range(2**SQUARINGS):
        scores = scores @ matrix
    return scores.view_as(activations)


def measure(rounds: int = 3, *, height: int = HEIGHT, width: int = WIDTH) -> Comparison:
    """Compare on one image.

    Ours includes the construction of its matrix; the reference does not, in its favour.
    """
    activations, edge = sample(height, width)
    matrix = dense_transition(edge)
    result = torch.empty_like(matrix)

    def squaring() -> Tensor:
        return torch.mm(matrix, matrix, out=result)

    def ours() -> Tensor:
        return propagate(activations, edge, radius=RADIUS, beta=BETA, steps=2**SQUARINGS)

    propagate(activations, edge, radius=RADIUS, beta=BETA, steps=1)
    pairs = []
    for _ in range(rounds):
        (one, seconds), (_, found) = timed_pair(squaring, ours)
        pairs.append((SQUARINGS * one, seconds))
    expected = dense_result(activations, edge, matrix)
    return Comparison(
        pairs,
        "seconds an image",
        float((found - expected).abs().max() / expected.max()),
        "largest difference, as a share of the maximum",
        f"{width}×{height} cells, radius {RADIUS}, {2**SQUARINGS} steps, {CLASSES} classes; reference: "
        f"dense matrix, one squaring timed and taken times {SQUARINGS}",
    )
