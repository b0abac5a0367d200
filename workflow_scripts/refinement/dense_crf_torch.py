"""Dense CRF in torch operations, for GPUs: the same numbers as the numba backend.

The permutohedral lattice (Adams, Baek & Davis 2010) is a sparse matrix S of barycentric weights,
points by vertices, and a blur along d + 1 axes; a filter is S · blur · Sᵀ. Vertices are numbered by
sorting packed integer keys.
"""

import warnings
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from workflow_scripts.refinement.permutohedral import build
from workflow_scripts.refinement.simplices import elevation
from workflow_scripts.refinement.vertex_keys import mixed_radix
from workflow_scripts.settings.dense_crf import CrfSettings

SMALLEST_NORM = 1e-20

warnings.filterwarnings("ignore", message="Sparse CSR tensor support is in beta")


@dataclass(frozen=True, slots=True)
class _Filter:
    """One normalised Gaussian kernel.

    Attributes:
        slicing: CSR float32[N, M + 1], normalised barycentric weights; column 0 is no vertex.
        splatting: Its transpose.
        neighbours: int64[d + 1, M, 2], rows of each vertex's neighbours, 0 where there is none.
        factor: Compatibility times what the blur lacks to be a Gaussian's.
    """

    slicing: Tensor
    splatting: Tensor
    neighbours: Tensor
    factor: float

    def __call__(self, values: Tensor) -> Tensor:
        """Filter float32[N, columns]."""
        table = _blurred(self.splatting @ values, self.neighbours)
        return (self.slicing @ table) * self.factor


def _blurred(table: Tensor, neighbours: Tensor) -> Tensor:
    """Convolve rows of a table with (½, 1, ½) along every axis; row 0 stays zero."""
    for pairs in neighbours:
        blurred = table.clone()
        blurred[1:] += 0.5 * (table[pairs[:, 0]] + table[pairs[:, 1]])
        table = blurred
    return table


def _embed(features: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Closest remainder-0 vertex, rank of the residuals, residuals; each [d + 1, N].

    The same operations in the same order as in `simplices.embed`, so that the results are the same.
    """
    d, n = features.shape
    scale = elevation(d)
    total = torch.zeros(n, device=features.device)
    elevated = [total] * (d + 1)
    for j in range(d, 0, -1):
        c = features[j - 1] * float(scale[j - 1])
        elevated[j] = total - float(j) * c
        total = total + c
    elevated[0] = total
    e = torch.stack(elevated)
    down = float(np.float32(1.0 / (d + 1)))
    nearest = torch.floor(down * e + 0.5).to(torch.int32)
    corner = nearest * (d + 1)
    e = e - corner.to(torch.float32)
    rank = torch.zeros_like(corner)
    for i in range(d):
        for j in range(i + 1, d + 1):
            smaller = (e[i] < e[j]).to(torch.int32)
            rank[i] += smaller
            rank[j] += 1 - smaller
    rank += nearest.sum(dim=0, dtype=torch.int32)
    turn = (d + 1) * ((rank < 0).to(torch.int32) - (rank > d).to(torch.int32))
    return corner + turn, rank + turn, (e - turn.to(torch.float32)) * down


def _lattice(features: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Vertices int64[N, d + 1] from 1, weights float32[N, d + 1] and neighbours [d + 1, M, 2]."""
    d, n = features.shape
    device = features.device
    low, high = (bound.cpu().numpy() for bound in torch.aminmax(features, dim=1))
    radix = mixed_radix(low, high)
    if radix is None:
        lattice = build(features.cpu().numpy())
        sorted_from_1 = np.empty_like(lattice.rows)
        sorted_from_1[lattice.rows] = np.arange(1, lattice.size + 1)
        parts = (sorted_from_1[lattice.vertices], lattice.weights, lattice.neighbours)
        vertices, weights, neighbours = (torch.from_numpy(part).to(device) for part in parts)
        return vertices.long(), weights, neighbours.long()
    corner, rank, residual = _embed(features)
    base = torch.tensor(radix, device=device)
    ordered = torch.empty_like(residual).scatter_(0, rank.long(), residual).flip(0)
    weights = torch.cat([1 + ordered[:1] - ordered[-1:], ordered.diff(dim=0)]).T.contiguous()
    lowered = torch.empty((d + 1, n), dtype=torch.int64, device=device)
    lowered.scatter_(0, rank.long(), base[:, None].expand(-1, n))
    steps = base.sum() - (d + 1) * lowered.flip(0)[:d]
    origin = (corner * base[:, None]).sum(dim=0, keepdim=True)
    keys = torch.cat([origin, origin + steps.cumsum(dim=0)]).T
    known, vertices = torch.unique(keys, return_inverse=True)
    neighbours = torch.zeros((d + 1, known.numel(), 2), dtype=torch.int64, device=device)
    for j in range(d + 1):
        offset = (d + 1) * base[j] - base.sum()
        for side, wanted in enumerate((known + offset, known - offset)):
            at = torch.searchsorted(known, wanted).clamp_(max=known.numel() - 1)
            neighbours[j, :, side] = torch.where(known[at] == wanted, at + 1, 0)
    return vertices + 1, weights, neighbours


def _filter(features: Tensor, compat: float) -> _Filter:
    """The kernel with unit standard deviation in every feature, symmetrically normalised."""
    vertices, weights, neighbours = _lattice(features)
    n, corners = vertices.shape
    rows = neighbours.shape[1] + 1
    gain = 1.0 / (1.0 + 2.0 ** (1 - corners))
    by_vertex = torch.argsort(vertices.reshape(-1), stable=True)
    counts = torch.bincount(vertices.reshape(-1), minlength=rows)
    begins = torch.cat([counts.new_zeros(1), counts.cumsum(0)])
    by_point = torch.arange(n + 1, device=features.device) * corners

    def matrices(values: Tensor) -> tuple[Tensor, Tensor]:
        numbers = values.reshape(-1)
        slicing = (by_point, vertices.reshape(-1), numbers, (n, rows))
        splatting = (begins, by_vertex // corners, numbers[by_vertex], (rows, n))
        return (
            torch.sparse_csr_tensor(*slicing, check_invariants=False),
            torch.sparse_csr_tensor(*splatting, check_invariants=False),
        )

    slicing, splatting = matrices(weights)
    ones = torch.ones((n, 1), device=features.device)
    mass = (slicing @ _blurred(splatting @ ones, neighbours)) * gain
    return _Filter(*matrices(weights / torch.sqrt(mass + SMALLEST_NORM)), neighbours, gain * compat)


@torch.inference_mode()
def refine(
    image: NDArray[np.uint8],
    unary: NDArray[np.float32],
    settings: CrfSettings,
    device: str,
) -> NDArray[np.float32]:
    """Marginals of P problems over one image; see `dense_crf.refine`.

    Args:
        image: uint8[H, W, 3].
        unary: float32[P, L, H, W].
        settings: Kernels and iterations.
        device: A torch device.

    Returns:
        float32[P, L, H, W].
    """
    problems, labels, height, width = unary.shape
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    place = torch.stack([x, y]).reshape(2, -1).to(device, torch.float32)
    kernels = []
    if settings.iterations and settings.gaussian_compat:
        kernels.append(_filter(place / settings.gaussian_sxy, settings.gaussian_compat))
    if settings.iterations and settings.bilateral_compat:
        colour = torch.from_numpy(np.ascontiguousarray(image)).to(device).reshape(-1, 3).T
        colour = colour.to(torch.float32) / settings.bilateral_srgb
        features = torch.cat([place / settings.bilateral_sxy, colour])
        kernels.append(_filter(features, settings.bilateral_compat))
    flat = np.ascontiguousarray(unary.reshape(problems, labels, -1).transpose(2, 0, 1))
    prior = -torch.from_numpy(flat).to(device)
    marginals = prior.softmax(dim=2)
    for _ in range(settings.iterations):
        logits = prior.clone()
        for kernel in kernels:
            logits += kernel(marginals.reshape(len(prior), -1)).reshape(prior.shape)
        marginals = logits.softmax(dim=2)
    return np.ascontiguousarray(marginals.cpu().numpy().transpose(1, 2, 0)).reshape(unary.shape)
