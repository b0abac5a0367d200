"""The activation manipulation network: per-pixel classification and label conditioning.

Paper section 3.2 and 3.3. Two departures from the published code: dropout is off at inference, and a
batch without foreground (or without background) pixels contributes 0 for that side, not NaN.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from workflow_scripts.doors.method import LabelledImage
from workflow_scripts.models.feature_maps import Backbone
from workflow_scripts.models.multi_scale import add_resized, maps_at_scales
from workflow_scripts.models.segmentation import Aspp
from workflow_scripts.models.views import downloaded
from workflow_scripts.storage.activation_maps import AmnMaps
from workflow_scripts.storage.shard_files import strided_size

IGNORE = 255
# Absent classes of a larger share of an image are kept apart, up to so many.
LEAST_SHARE, MOST_EXTRA = 0.01, 8
CHANNELS_AT_ONCE = 20


class AmnNetwork(nn.Module):
    """Backbone, features scaled by a linear function of the image's labels, dropout, ASPP."""

    def __init__(
        self,
        backbone: Backbone,
        classes: int,
        dilations: Sequence[int],
        dropout: float,
        label_conditioning: bool,
    ) -> None:
        super().__init__()
        self.backbone = backbone
        channels = backbone.channels
        self.label_conditioning = nn.Linear(classes, channels) if label_conditioning else None
        self.dropout = nn.Dropout(dropout)
        self.classifier = Aspp(channels, classes + 1, dilations)

    def forward(self, images: Tensor, labels: Tensor) -> Tensor:
        """Logits of background and classes.

        Args:
            images: [B, 3, H, W].
            labels: The images' labels, 0/1 [B, C].

        Returns:
            [B, C + 1, h, w] at the backbone's output stride.
        """
        features = self.backbone(images)
        if self.label_conditioning is not None:
            features = features * self.label_conditioning(labels)[:, :, None, None]
        return self.classifier(self.dropout(features))


def reduce_labels(labels: Tensor, height: int, width: int) -> Tensor:
    """Seeds at the logits' size by nearest neighbour: [B, H, W] → [B, height, width]."""
    reduced = F.interpolate(labels[:, None].float(), size=(height, width), mode="nearest-exact")
    return reduced[:, 0].long()


def pixel_counts(labels: Tensor, balance: bool) -> Tensor:
    """How many pixels each mean of the loss is over: [2] (background, foreground), or [1].

    Args:
        labels: [B, h, w], 255 is ignored.
        balance: Whether background and foreground are averaged apart.
    """
    valid = labels != IGNORE
    if not balance:
        return valid.sum()[None].float()
    background = labels == 0
    return torch.stack([background.sum(), (valid & ~background).sum()]).float()


def per_pixel_loss(
    logits: Tensor, labels: Tensor, counts: Tensor, label_smoothing: float
) -> Tensor:
    """Balanced, label-smoothed cross-entropy (paper equations 3 to 5).

    The target is 1 − ε on the label and ε / C on each of the C others. With balance, the mean over
    background pixels and the mean over foreground pixels of the whole batch are averaged.

    Args:
        logits: [B, C + 1, h, w].
        labels: [B, h, w], 255 is ignored.
        counts: Pixels each mean is over, `pixel_counts` of the *whole* batch, of which `logits` may be
            a part: [2] with balance, [1] without.
        label_smoothing: ε.

    Returns:
        A scalar; parts of a batch add up to the loss of the batch.
    """
    others = logits.shape[1] - 1
    log_probability = F.log_softmax(logits.float(), dim=1)
    valid = labels != IGNORE
    on_label = log_probability.gather(1, labels.where(valid, 0)[:, None])[:, 0]
    on_others = log_probability.sum(dim=1) - on_label
    loss = -(1 - label_smoothing) * on_label - label_smoothing / others * on_others
    if len(counts) == 1:
        return (loss * valid).sum() / counts[0].clamp(min=1)
    background = labels == 0
    sides = torch.stack([(loss * background).sum(), (loss * (valid & ~background)).sum()])
    return (sides / counts.clamp(min=1)).mean()


def amn_activations(
    network: AmnNetwork,
    images: Sequence[LabelledImage],
    scales: Sequence[float],
    device: torch.device,
) -> list[AmnMaps]:
    """AMN's activations of images of one size, each conditioned on its labels.

    Args:
        network: AMN in evaluation mode.
        images: At least one, with the CAM's seeds.
        scales: Image scales.
        device: Where to compute.

    Returns:
        Of each, logits averaged over scales and mirror images, of background, its labels and the others.
    """
    condition = torch.zeros(len(images), images[0].classes)
    for row, image in zip(condition, images, strict=True):
        row[torch.tensor(image.labels, dtype=torch.long) - 1] = 1
    pixels = [image.pixels for image in images]
    maps = maps_at_scales(
        pixels, scales, network.backbone, network, device, given=condition.to(device)
    )
    views = 2 * len(scales)
    return [
        _activations([one[number : number + 1] / views for one in maps], image)
        for number, image in enumerate(images)
    ]


@torch.inference_mode()
def _activations(maps: Sequence[Tensor], image: LabelledImage) -> AmnMaps:
    """What is kept of an image's logits float32 [1, C + 1, h', w'] of each scale."""
    size = image.pixels.shape[:2]
    sizes = size, strided_size(*size)
    kept, left = channels_to_keep(maps, image.labels, sizes[1])
    stored = [m[0, kept] for m in maps]
    excess = [maps[0].new_zeros(0, *size) for size in sizes]
    if len(left):
        others = [m[:, left] for m in maps]
        # Weighted by their shares, the mean follows the sum of exponentials most closely.
        weights = F.softmax(add_resized(others, *sizes[1]), dim=0).mean(dim=(1, 2))
        means = [(m * weights[:, None, None]).sum(dim=1, keepdim=True) for m in others]
        stored = [torch.cat([k, m[0]]) for k, m in zip(stored, means, strict=True)]
        excess = [added_exponentials(others, *s) - add_resized(means, *s) for s in sizes]
    full, strided, *cells = downloaded([*excess, *stored])
    assert image.seed is not None
    return AmnMaps(len(image.labels), tuple(cells), full, strided, image.seed != 0)


def channels_to_keep(
    maps: Sequence[Tensor], labels: Sequence[int], size: tuple[int, int]
) -> tuple[Tensor, Tensor]:
    """Background, an image's labels and the other classes that count there; and what is left.

    Args:
        maps: Logits float32 [1, C + 1, h', w'] of each scale, which are added up.
        labels: Class numbers of the image, from 1.
        size: Rows and columns at which the classes' shares are measured.

    Returns:
        Channels, int64 [1 + k + e] and int64 [C - k - e].
    """
    shares = F.softmax(add_resized(maps, *size), dim=0).mean(dim=(1, 2))
    shares[[0, *labels]] = -1  # behind those whose share is 0
    order = shares.argsort(descending=True, stable=True)
    extra = min(int((shares >= LEAST_SHARE).sum()), MOST_EXTRA)
    shown = torch.tensor([0, *labels], device=order.device)
    return torch.cat([shown, order[:extra]]), order[extra : len(order) - len(shown)]


def added_exponentials(logits: Sequence[Tensor], height: int, width: int) -> Tensor:
    """The logarithm of the summed exponentials of all channels at a size.

    Args:
        logits: float32 [1, A, h', w'] of each scale, which are added up.
        height: Rows of the result.
        width: Its columns.

    Returns:
        float32 [1, height, width]. Some channels at a time are enlarged, so that memory does not grow
        with their number.
    """
    total = torch.full((1, height, width), -torch.inf, device=logits[0].device)
    for part in zip(*(scale.split(CHANNELS_AT_ONCE, dim=1) for scale in logits), strict=True):
        some = torch.logsumexp(add_resized(part, height, width), dim=0, keepdim=True)
        total = torch.logaddexp(total, some)
    return total
