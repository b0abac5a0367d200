"""The boundary network (IRN), and the paths between pixels on which it looks for class boundaries.

Ahn, Cho & Kwak, "Weakly Supervised Learning of Instance Segmentation with Inter-pixel Relations", CVPR
2019. Two pixels belong together when no class boundary lies between them, which is measured by the largest
edge on the line from one to the other: affinity = 1 - that (section 3.2). Each pair is taken once, from the
pixel above (or, in one row, from the left), so that the displacements from a pixel to its partners fill half
a disc.

The network (sections 3 and 4) is a frozen backbone with 1×1 convolutions and group normalisation over the
feature maps of all its levels, brought to a stride of 4. The published network has a second branch,
displacements towards objects' centres, which tells instances of one class apart: semantic segmentation does
not use it, and the boundaries learn the same without it, since the two share nothing that trains.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from workflow_scripts.models.feature_maps import Backbone, Level
from workflow_scripts.storage.shard_files import STRIDE


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


IGNORE = 255
EDGE_CHANNELS, EDGE_GROUPS = 32, 4
EPSILON = 1e-5


class _Resample(nn.Module):
    """From one stride to stride 4: bilinear enlargement, or the mean of the pixels that fall together."""

    def __init__(self, stride: int) -> None:
        super().__init__()
        self.stride = stride

    def forward(self, features: Tensor) -> Tensor:
        if self.stride < STRIDE:
            return F.avg_pool2d(
                features, STRIDE // self.stride, ceil_mode=True, count_include_pad=False
            )
        if self.stride == STRIDE:
            return features
        size = [-(-side * self.stride // STRIDE) for side in features.shape[-2:]]
        return F.interpolate(features, size=size, mode="bilinear", align_corners=False)


class _Projection(nn.Module):
    """1×1 convolution, group normalisation, resampling to stride 4, ReLU."""

    def __init__(self, level: Level) -> None:
        super().__init__()
        self.conv = nn.Conv2d(level.channels, EDGE_CHANNELS, 1, bias=False)
        self.norm = nn.GroupNorm(EDGE_GROUPS, EDGE_CHANNELS)
        self.resample = _Resample(level.stride)

    def forward(self, features: Tensor) -> Tensor:
        return F.relu(self.resample(self.norm(self.conv(features))))


class EdgeBranch(nn.Module):
    """Logits of a class boundary at every pixel of stride 4."""

    def __init__(self, levels: Sequence[Level]) -> None:
        super().__init__()
        self.stages = nn.ModuleList(_Projection(level) for level in levels)
        self.head = nn.Conv2d(len(levels) * EDGE_CHANNELS, 1, 1)

    def forward(self, maps: Sequence[Tensor], height: int, width: int) -> Tensor:
        """A feature map of each level → [B, 1, height, width]; what is enlarged beyond is cut off."""
        reduced = [stage(features) for stage, features in zip(self.stages, maps, strict=True)]
        return self.head(torch.cat([one[..., :height, :width] for one in reduced], dim=1))


class BoundaryNetwork(nn.Module):
    """A backbone that does not train, with an edge branch.

    Attributes:
        at_base_rate: New layers that learn at the optimiser's rate itself, not at its new layers' one.
    """

    at_base_rate = ("edge.",)

    def __init__(self, backbone: Backbone) -> None:
        super().__init__()
        self.backbone = backbone.requires_grad_(False)
        self.edge = EdgeBranch(backbone.levels)

    def forward(self, images: Tensor) -> Tensor:
        """Logits of a boundary.

        Args:
            images: Normalised images [B, 3, H, W].

        Returns:
            [B, 1, ceil(H / 4), ceil(W / 4)].
        """
        with torch.no_grad():
            maps = self.backbone.pyramid(images)
        return self.edge(maps, *(-(-side // STRIDE) for side in images.shape[-2:]))

    def train(self, mode: bool = True) -> Self:
        """As usual, but the backbone stays as it is at inference."""
        super().train(mode)
        self.backbone.eval()
        return self

    def load_state_dict(self, state_dict: Mapping[str, Any], *rest: Any, **options: Any) -> Any:
        """As usual, without the displacement branch that networks of earlier versions have."""
        edges = {k: v for k, v in state_dict.items() if not k.startswith("displacement.")}
        return super().load_state_dict(edges, *rest, **options)


@torch.no_grad()
def infer_boundaries(network: BoundaryNetwork, images: Tensor, least_side: int = 0) -> Tensor:
    """Boundaries from images and their mirror images.

    Args:
        network: In evaluation mode.
        images: Normalised images of one size [B, 3, H, W].
        least_side: Images are padded with zeros, on the right and at the bottom, to at least this
            height and width: group normalisation sees the padding, and saw it in training crops.

    Returns:
        Probability of a boundary, float32 [B, ceil(H / 4), ceil(W / 4)].
    """
    batch, _, height, width = images.shape
    both = torch.cat([images, images.flip(-1)])
    right, bottom = max(0, least_side - width), max(0, least_side - height)
    logits = network(F.pad(both, (0, right, 0, bottom)))
    rows, columns = -(-height // STRIDE), -(-width // STRIDE)
    logits = logits[:, 0, :rows, :columns].float()
    return torch.sigmoid((logits[:batch] + logits[batch:].flip(-1)) / 2)


def reduce_labels(labels: Tensor) -> Tensor:
    """Seeds at stride 4 by nearest neighbour: [B, H, W] → [B, ceil(H / 4), ceil(W / 4)].

    Of four pixels in a row the third is taken (as PIL's nearest neighbour does).
    """
    size = tuple(-(-side // STRIDE) for side in labels.shape[-2:])
    return F.interpolate(labels[:, None].float(), size=size, mode="nearest-exact")[:, 0].long()


def pair_kinds(labels: Tensor, radius: int) -> Tensor:
    """Sort all pairs within the radius by the labels of their pixels.

    Args:
        labels: Seeds at stride 4, [B, h, w]: 0 background, 255 unknown.
        radius: Pairs are closer than this (pixels of stride 4).

    Returns:
        Bool [3, B, P, h', w'], pairs as in `path_affinities`: both background, both of one class,
        of different labels. A pair with an unknown pixel is of no kind.
    """
    start, end = pair_starts(labels, radius)[:, None], pair_ends(labels, radius)
    known = (start != IGNORE) & (end != IGNORE)
    like = known & (start == end)
    background = start == 0
    return torch.stack([like & background, like & ~background, known & ~like])


def pair_counts(labels: Tensor, radius: int) -> Tensor:
    """How many pairs there are of each of the three kinds, [3]; see `pair_kinds`."""
    return pair_kinds(labels, radius).sum(dim=(1, 2, 3, 4)).float()


def boundary_losses(logits: Tensor, labels: Tensor, counts: Tensor, radius: int) -> Tensor:
    """The losses of IRN's boundaries (section 4.2); the loss to minimise is half their sum.

    Args:
        logits: Logits of a boundary [B, 1, h, w].
        labels: Seeds at stride 4, [B, h, w]: 0 background, 255 unknown.
        counts: Pairs that each mean is over, `pair_counts` of the *whole* batch, of which this may be
            a part: [3].
        radius: Pairs are closer than this (pixels of stride 4).

    Returns:
        [2], parts of a batch add up to the losses of the batch:
        −log affinity of like pairs (mean of background's and foreground's means);
        −log(1 − affinity) of unlike pairs.
        A kind without pairs contributes 0.
    """
    background, foreground, unlike = pair_kinds(labels, radius)
    per_background, per_foreground, per_unlike = 1 / counts.clamp(min=1)
    affinity = path_affinities(torch.sigmoid(logits[:, 0].float()), radius)
    together = -torch.log(affinity + EPSILON)
    apart = -torch.log(1 + EPSILON - affinity)
    like = (together * background).sum() * per_background
    like = like + (together * foreground).sum() * per_foreground
    return torch.stack([like / 2, (apart * unlike).sum() * per_unlike])
