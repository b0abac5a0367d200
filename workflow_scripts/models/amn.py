"""The activation manipulation network: per-pixel classification and label conditioning.

Paper section 3.2 and 3.3. Two departures from the published code: dropout is off at inference, and a
batch without foreground (or without background) pixels contributes 0 for that side, not NaN.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from workflow_scripts.models.aspp import Aspp
from workflow_scripts.models.backbones import Backbone

IGNORE = 255


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
        channels = backbone.channels[-1]
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
