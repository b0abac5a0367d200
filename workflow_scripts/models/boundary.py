"""The boundary network (IRN): class boundaries.

Ahn, Cho & Kwak, "Weakly Supervised Learning of Instance Segmentation with Inter-pixel Relations",
CVPR 2019, sections 3 and 4. A frozen backbone; 1×1 convolutions with group normalisation over the feature
maps of all its levels, brought to a stride of 4. The published network has a second branch, displacements
towards objects' centres, which tells instances of one class apart: semantic segmentation does not use it,
and the boundaries learn the same without it, since the two share nothing that trains.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from workflow_scripts.models.feature_maps import Backbone, Level
from workflow_scripts.models.path_index import pair_ends, pair_starts, path_affinities
from workflow_scripts.storage.shard_files import STRIDE

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
