"""The boundary network (IRN): class boundaries, and displacements towards the object's centre.

Ahn, Cho & Kwak, "Weakly Supervised Learning of Instance Segmentation with Inter-pixel Relations",
CVPR 2019, sections 3 and 4. A frozen backbone; both branches are 1×1 convolutions with group
normalisation over the feature maps of all five stages, brought to a stride of 4.
"""

from typing import Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from workflow_scripts.models.backbones import Backbone
from workflow_scripts.models.path_index import half_disc, pair_ends, pair_starts, path_affinities
from workflow_scripts.storage.shards import STRIDE

IGNORE = 255
EDGE_CHANNELS, EDGE_GROUPS = 32, 4
DISPLACEMENT_CHANNELS = (64, 128, 256, 256, 256)
DISPLACEMENT_GROUPS = (8, 16, 16, 16, 16)
FUSED_CHANNELS, FUSED_GROUPS = 256, 16
EPSILON = 1e-5
MEAN_MOMENTUM = 0.1


def _resample(stride: int, target: int) -> nn.Module:
    """From one stride to another: bilinear enlargement, or the mean of the pixels that fall together."""
    if stride > target:
        return nn.Upsample(scale_factor=stride // target, mode="bilinear", align_corners=False)
    if stride < target:
        return nn.AvgPool2d(target // stride, ceil_mode=True, count_include_pad=False)
    return nn.Identity()


class _Projection(nn.Module):
    """1×1 convolution, group normalisation, resampling, ReLU."""

    def __init__(self, channels: int, width: int, groups: int, stride: int, target: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, width, 1, bias=False)
        self.norm = nn.GroupNorm(groups, width)
        self.resample = _resample(stride, target)

    def forward(self, features: Tensor) -> Tensor:
        return F.relu(self.resample(self.norm(self.conv(features))))


def _concatenate(maps: list[Tensor], reference: Tensor) -> Tensor:
    """Join along the channels, cut to the reference's size (enlarged maps may be too large)."""
    height, width = reference.shape[-2:]
    return torch.cat([features[..., :height, :width] for features in maps], dim=1)


class EdgeBranch(nn.Module):
    """Logits of a class boundary at every pixel of stride 4."""

    def __init__(self, channels: tuple[int, ...], strides: tuple[int, ...]) -> None:
        super().__init__()
        self.stages = nn.ModuleList(
            _Projection(count, EDGE_CHANNELS, EDGE_GROUPS, stride, STRIDE)
            for count, stride in zip(channels, strides, strict=True)
        )
        self.head = nn.Conv2d(len(channels) * EDGE_CHANNELS, 1, 1)

    def forward(self, maps: list[Tensor]) -> Tensor:
        """Five feature maps → [B, 1, h, w]."""
        reduced = [stage(features) for stage, features in zip(self.stages, maps, strict=True)]
        return self.head(_concatenate(reduced, reduced[1]))


class DisplacementBranch(nn.Module):
    """Displacement (dy, dx) of every pixel of stride 4 to the centre of its object.

    The last three stages are joined at the third one's stride first. What training fixes are
    differences between pixels; their running mean is subtracted at inference.
    """

    mean: Tensor

    def __init__(self, channels: tuple[int, ...], strides: tuple[int, ...]) -> None:
        super().__init__()
        middle = strides[2]
        targets = (STRIDE, STRIDE, middle, middle, middle)
        widths, groups = DISPLACEMENT_CHANNELS, DISPLACEMENT_GROUPS
        self.stages = nn.ModuleList(
            _Projection(*of_stage)
            for of_stage in zip(channels, widths, groups, strides, targets, strict=True)
        )
        self.coarse = _Projection(sum(widths[2:]), FUSED_CHANNELS, FUSED_GROUPS, middle, STRIDE)
        fine = sum(widths[:2]) + FUSED_CHANNELS
        self.fine = _Projection(fine, FUSED_CHANNELS, FUSED_GROUPS, STRIDE, STRIDE)
        self.head = nn.Conv2d(FUSED_CHANNELS, 2, 1, bias=False)
        self.register_buffer("mean", torch.zeros(2))

    def forward(self, maps: list[Tensor]) -> Tensor:
        """Five feature maps → [B, 2, h, w]."""
        reduced = [stage(features) for stage, features in zip(self.stages, maps, strict=True)]
        coarse = self.coarse(_concatenate(reduced[2:], reduced[2]))
        displacement = self.head(self.fine(_concatenate([*reduced[:2], coarse], reduced[1])))
        if not self.training:
            return displacement - self.mean[:, None, None]
        with torch.no_grad():
            self.mean.lerp_(displacement.float().mean(dim=(0, 2, 3)), MEAN_MOMENTUM)
        return displacement


class BoundaryNetwork(nn.Module):
    """A backbone that does not train, with an edge branch and a displacement branch.

    Attributes:
        at_base_rate: New layers that learn at the optimiser's rate itself, not at its new layers' one.
    """

    at_base_rate = ("edge.",)

    def __init__(self, backbone: Backbone) -> None:
        super().__init__()
        self.backbone = backbone.requires_grad_(False)
        self.edge = EdgeBranch(backbone.channels, backbone.strides)
        self.displacement = DisplacementBranch(backbone.channels, backbone.strides)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Logits of a boundary and displacements (pixels of stride 4).

        Args:
            images: Normalised images [B, 3, H, W].

        Returns:
            [B, 1, ceil(H / 4), ceil(W / 4)] and [B, 2, ceil(H / 4), ceil(W / 4)].
        """
        with torch.no_grad():
            maps = self.backbone.stages(images)
        return self.edge(maps), self.displacement(maps)

    def train(self, mode: bool = True) -> Self:
        """As usual, but the backbone stays as it is at inference."""
        super().train(mode)
        self.backbone.eval()
        return self


@torch.no_grad()
def infer_boundaries(
    network: BoundaryNetwork, images: Tensor, least_side: int = 0
) -> tuple[Tensor, Tensor]:
    """Boundaries from images and their mirror images; displacements from the images.

    Args:
        network: In evaluation mode.
        images: Normalised images of one size [B, 3, H, W].
        least_side: Images are padded with zeros, on the right and at the bottom, to at least this
            height and width: group normalisation sees the padding, and saw it in training crops.

    Returns:
        Probability of a boundary [B, ceil(H / 4), ceil(W / 4)] and displacements
        [B, 2, ceil(H / 4), ceil(W / 4)], both float32.
    """
    batch, _, height, width = images.shape
    both = torch.cat([images, images.flip(-1)])
    right, bottom = max(0, least_side - width), max(0, least_side - height)
    logits, displacement = network(F.pad(both, (0, right, 0, bottom)))
    rows, columns = -(-height // STRIDE), -(-width // STRIDE)
    logits = logits[:, 0, :rows, :columns].float()
    edge = torch.sigmoid((logits[:batch] + logits[batch:].flip(-1)) / 2)
    return edge, displacement[:batch, :, :rows, :columns].float()


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


def boundary_losses(
    logits: Tensor, displacement: Tensor, labels: Tensor, counts: Tensor, radius: int
) -> Tensor:
    """The four losses of IRN (sections 4.1 and 4.2); the loss to minimise is half their sum.

    Args:
        logits: Logits of a boundary [B, 1, h, w].
        displacement: [B, 2, h, w], pixels of stride 4.
        labels: Seeds at stride 4, [B, h, w]: 0 background, 255 unknown.
        counts: Pairs that each mean is over, `pair_counts` of the *whole* batch, of which this may be
            a part: [3].
        radius: Pairs are closer than this (pixels of stride 4).

    Returns:
        [4], parts of a batch add up to the losses of the batch:
        −log affinity of like pairs (mean of background's and foreground's means);
        −log(1 − affinity) of unlike pairs;
        L1 of the difference of displacements to the pair's own displacement, like foreground pairs;
        L1 of the difference of displacements, like background pairs.
        A kind without pairs contributes 0.
    """
    background, foreground, unlike = pair_kinds(labels, radius)
    per_background, per_foreground, per_unlike = 1 / counts.clamp(min=1)
    affinity = path_affinities(torch.sigmoid(logits[:, 0].float()), radius)
    together = -torch.log(affinity + EPSILON)
    apart = -torch.log(1 + EPSILON - affinity)
    displacement = displacement.float()
    difference = pair_starts(displacement, radius)[:, :, None] - pair_ends(displacement, radius)
    own = [(path.dy, path.dx) for path in half_disc(radius)]
    target = torch.tensor(own, dtype=difference.dtype, device=difference.device).T[..., None, None]
    towards_centre = (difference - target).abs().mean(dim=1)
    constant = difference.abs().mean(dim=1)
    like = (together * background).sum() * per_background
    like = like + (together * foreground).sum() * per_foreground
    return torch.stack(
        [
            like / 2,
            (apart * unlike).sum() * per_unlike,
            (towards_centre * foreground).sum() * per_foreground,
            (constant * background).sum() * per_background,
        ]
    )
