"""Random walk of activations over an edge map (Ahn, Cho & Kwak, CVPR 2019, section 4.2).

Two pixels closer than a radius have the affinity 1 - the largest edge on the path between them, a
pixel and itself 1. A = affinity ** beta, its columns divided by their sums, is the transition matrix
T; the activations x, set to x · (1 - edge), become x T ** steps.

As usually written, T is a dense matrix of pixels × pixels that is squared eight times. A pixel has
only 68 neighbours, though (radius 5), and 256 products of x with the sparse matrix give the same
numbers with a thousandth of the arithmetic, in memory proportional to pixels × neighbours.

The product is a stencil. The maps are laid out row after row, each row followed by radius - 1 zeros: a
neighbour is then a fixed number of elements away, and the product a sum of 69 shifted, weighted copies
of the whole map, for all classes and images at once. That is faster on a processor than compressed
sparse rows, needs no vendor's library, and is the same code on a GPU.

`BoundaryWalk` does this with the boundaries that a trained network finds in images.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from workflow_scripts.models.boundary import (
    BoundaryNetwork,
    half_disc,
    infer_boundaries,
    largest_on_path,
)
from workflow_scripts.models.trained import described, described_backbone, ready_for_inference
from workflow_scripts.models.views import downloaded, normalised, upload
from workflow_scripts.settings.refinement import PropagateSettings
from workflow_scripts.storage.networks import load_network, read_description
from workflow_scripts.storage.shard_files import STRIDE
from workflow_scripts.training.precision import autocast, inference_dtype

# Weights below this cannot move a float32 sum that holds a 1 (the pixel itself), even over thousands
# of steps; as zeros they keep slow denormal numbers out of the products.
NEGLIGIBLE = 1e-12

# Elements an operation works on, on a processor: few enough to stay in its cache and not to be spread
# over threads (which torch does from 32,768 on, and which would have to meet 69 times a step), enough
# to outweigh the call of the operation.
PIECE = 32_000


@dataclass(frozen=True)
class _Layout:
    """Maps of h × w pixels in a row: a margin, rows of w pixels and a gutter of zeros, a margin."""

    height: int
    width: int
    gutter: int

    @property
    def pitch(self) -> int:
        """Elements from one row to the next."""
        return self.width + self.gutter

    @property
    def length(self) -> int:
        """Elements between the margins."""
        return self.height * self.pitch

    @property
    def margin(self) -> int:
        """Elements before and after, so that shifted copies stay inside."""
        return self.gutter * (self.pitch + 1)

    def spread(self, maps: Tensor) -> Tensor:
        """[..., h, w] → [..., margin + length + margin]."""
        rows = F.pad(maps, (0, self.gutter)).flatten(-2)
        return F.pad(rows, (self.margin, self.margin))

    def collect(self, spread: Tensor) -> Tensor:
        """[..., margin + length + margin] → [..., h, w]."""
        rows = self.shifted(spread, 0).unflatten(-1, (self.height, self.pitch))
        return rows[..., : self.width]

    def shifted(self, spread: Tensor, offset: int) -> Tensor:
        """The elements `offset` further on, for each element between the margins: [..., length]."""
        return spread[..., self.margin + offset : self.margin + offset + self.length]


def _weights(edge: Tensor, radius: int, beta: float) -> Tensor:
    """Affinity ** beta of each pixel with its later neighbours: float [P, B, h, w].

    It is 0 where the neighbour lies outside the map.
    """
    paths = half_disc(radius)
    affinities = edge.new_zeros((len(paths), *edge.shape))
    for affinity, path in zip(affinities, paths, strict=True):
        largest = largest_on_path(edge, path)
        rows, columns = largest.shape[-2:]
        left = max(0, -path.dx)
        torch.sub(1, largest, out=affinity[:, :rows, left : left + columns])
    return F.threshold(affinities.pow_(beta), NEGLIGIBLE, 0.0, inplace=True)


def _stencil(edge: Tensor, radius: int, beta: float, layout: _Layout) -> list[tuple[int, Tensor]]:
    """Offsets of a pixel's neighbours, and the share of its new value that each contributes.

    The pixel itself comes last. It has by far the largest share before a boundary: were small shares
    added to it one by one, they would be rounded away, the same ones at every step.

    Args:
        edge: Probability of a boundary, float32 [B, h, w].
        radius: Neighbours are closer than this.
        beta: Exponent of the affinities.
        layout: Of the maps.

    Returns:
        (offset, float32 [B, 1, length]) pairs; the shares of a pixel sum to 1.
    """
    weights: list[tuple[int, Tensor]] = []
    for path, later in zip(half_disc(radius), _weights(edge, radius, beta), strict=True):
        offset = path.dy * layout.pitch + path.dx
        spread = layout.spread(later)[:, None]
        # The weight of a pair is stored at its first pixel: for the second one, `offset` before it.
        weights.append((offset, layout.shifted(spread, 0)))
        weights.append((-offset, layout.shifted(spread, -offset)))
    # In double precision: the error of a sum grows with every step.
    total = torch.ones(len(edge), 1, layout.length, dtype=torch.float64, device=edge.device)
    for _, weight in weights:
        total += weight
    shares = [(offset, (weight / total).float()) for offset, weight in weights]
    return [*shares, (0, (1 / total).float())]


def propagate(
    activations: Tensor, edge: Tensor, *, radius: int = 5, beta: float = 10.0, steps: int = 256
) -> Tensor:
    """Spread activations to pixels that no boundary separates from them.

    Args:
        activations: Float [B, K, h, w], K classes; or one image [K, h, w].
        edge: Probability of a boundary, float [B, h, w] (0…1); or [h, w].
        radius: Steps of the walk are shorter than this (pixels of the map).
        beta: Exponent of the affinities: the higher, the more an edge holds back.
        steps: Number of steps.

    Returns:
        Scores, float32 of the shape and on the device of `activations`.

    Raises:
        ValueError: Shapes differ, or the edges are no numbers from 0 to 1.
    """
    if activations.dim() == 3:
        return propagate(activations[None], edge[None], radius=radius, beta=beta, steps=steps)[0]
    batch, classes, height, width = activations.shape
    if edge.shape != (batch, height, width):
        raise ValueError(f"edges {tuple(edge.shape)}, activations {tuple(activations.shape)}")
    if not bool(((edge >= 0) & (edge <= 1)).all()):
        raise ValueError("edges must be numbers from 0 to 1")
    if not activations.numel():
        return activations.float()
    layout = _Layout(height, width, radius - 1)
    at_once = batch
    if activations.device.type == "cpu":
        at_once = max(1, PIECE // (classes * layout.length))
    scores = []
    with torch.no_grad(), torch.autocast(activations.device.type, enabled=False):
        for some, edges in zip(activations.split(at_once), edge.split(at_once), strict=True):
            edges = edges.float()
            stencil = _stencil(edges, radius, beta, layout)
            start = layout.spread(some.float() * (1 - edges)[:, None])
            scores.append(layout.collect(_walk(start, stencil, layout, steps)))
        return torch.cat(scores)


def _walk(scores: Tensor, stencil: list[tuple[int, Tensor]], layout: _Layout, steps: int) -> Tensor:
    """Take the steps: [B, K, margin + length + margin] → the same."""
    piece = layout.length
    if scores.device.type == "cpu":
        piece = max(1024, PIECE // (scores.shape[0] * scores.shape[1]))
    parts = [slice(start, start + piece) for start in range(0, layout.length, piece)]

    def plan(source: Tensor, target: Tensor) -> list[tuple[Tensor, list[tuple[Tensor, Tensor]]]]:
        views = [(layout.shifted(source, offset), share) for offset, share in stencil]
        result = layout.shifted(target, 0)
        return [
            (result[..., part], [(view[..., part], share[..., part]) for view, share in views])
            for part in parts
        ]

    other = torch.zeros_like(scores)
    there, back = plan(scores, other), plan(other, scores)
    for step in range(steps):
        for result, ((view, share), *rest) in there if step % 2 == 0 else back:
            torch.mul(view, share, out=result)
            for view, share in rest:
                result.addcmul_(view, share)
    return other if steps % 2 else scores


class BoundaryWalk:
    """A trained boundary network and the walk over the boundaries that it finds."""

    def __init__(self, model: Path, settings: PropagateSettings, device: torch.device) -> None:
        """Load the network; InputError when `model` (model.safetensors of train_boundary) holds none."""
        description = read_description(model, "boundary")
        with described(model):
            network = BoundaryNetwork(described_backbone(description).build())
        load_network(model, network)
        self.network: BoundaryNetwork = ready_for_inference(network, device)
        self.settings = settings
        self.device = device
        self.dtype = inference_dtype(description, device)

    def propagated(
        self, images: Sequence[np.ndarray], activations: Sequence[np.ndarray]
    ) -> list[np.ndarray]:
        """Propagate the activations of images of one size.

        Args:
            images: uint8 [H, W, 3] each.
            activations: Of each image, float32 [k, ceil(H / 4), ceil(W / 4)], one channel a label.

        Returns:
            Of each image float32 of the shape of its activations, see `normalise_globally`.
        """
        classes = max(map(len, activations))
        if not classes:
            return list(activations)
        height, width = images[0].shape[:2]
        backbone, settings = self.network.backbone, self.settings
        views = normalised(upload(images, self.device), backbone.mean, backbone.std)
        with autocast(self.dtype, self.device):
            edge = infer_boundaries(self.network, views, settings.least_side)
        start = torch.zeros(len(images), classes, *edge.shape[1:])
        for one, activation in zip(start, activations, strict=True):
            one[: len(activation)] = torch.from_numpy(activation)
        scores = propagate(
            start.to(self.device) ** settings.exponent,
            edge,
            radius=settings.radius,
            beta=settings.beta,
            steps=settings.steps,
        )
        spread = [
            normalise_globally(one, height, width)[: len(activation)]
            for one, activation in zip(scores, activations, strict=True)
        ]
        return downloaded(spread)


def normalise_globally(scores: Tensor, height: int, width: int) -> Tensor:
    """Divide by the largest value after enlargement to full size.

    Args:
        scores: float32 [K, ceil(height / 4), ceil(width / 4)], ≥ 0.
        height: Rows of the image.
        width: Columns of the image.

    Returns:
        The shape of `scores`. Their enlargement lies in 0…1; a peak of one pixel may exceed 1.
    """
    large = F.interpolate(scores[None], scale_factor=STRIDE, mode="bilinear", align_corners=False)
    largest = large[..., :height, :width].max()
    return scores / largest.clamp(min=torch.finfo().tiny)
