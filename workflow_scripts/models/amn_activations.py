"""Activations of one image by a trained AMN."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from workflow_scripts.models.amn import AmnNetwork
from workflow_scripts.models.backbones import build_backbone
from workflow_scripts.models.inference import add_resized, maps_at_scales
from workflow_scripts.models.trained import describe_trained, described, ready_for_inference
from workflow_scripts.settings.backbone import BackboneSettings
from workflow_scripts.storage.activation_maps import AmnMaps
from workflow_scripts.storage.networks import load_network
from workflow_scripts.storage.shards import strided_size

# Absent classes of a larger share of an image are kept apart, up to so many.
LEAST_SHARE, MOST_EXTRA = 0.01, 8
CHANNELS_AT_ONCE = 20


def load_amn(
    path: Path, classes: Sequence[str], device: torch.device
) -> tuple[AmnNetwork, dict[str, Any]]:
    """A trained AMN in evaluation mode, dropout off, and its description.

    Raises:
        InputError: `path` holds no AMN, or one of another number of classes.
    """
    description = describe_trained(path, "amn", classes)
    with described(path):
        network = AmnNetwork(
            build_backbone(BackboneSettings(**description["backbone"])),
            len(classes),
            description["dilations"],
            dropout=0.0,
            label_conditioning=description["label_conditioning"],
        )
    load_network(path, network)
    return ready_for_inference(network, device), description


def amn_activations(
    network: AmnNetwork,
    image: np.ndarray,
    labels: Sequence[int],
    classes: int,
    seed: np.ndarray,
    scales: Sequence[float],
    device: torch.device,
) -> AmnMaps:
    """AMN's activations of one image, conditioned on its labels.

    Args:
        network: AMN in evaluation mode.
        image: uint8 [H, W, 3].
        labels: Its class numbers, from 1.
        classes: C.
        seed: The CAM's seed of the image, uint8 [H, W].
        scales: Image scales.
        device: Where to compute.

    Returns:
        Logits averaged over scales and mirror images, of background, the image's labels and the others.
    """
    present = torch.tensor(labels, dtype=torch.long, device=device)
    condition = torch.zeros(classes, device=device)
    condition[present - 1] = 1

    def logits(batch: Tensor) -> Tensor:
        return network(batch, condition.expand(len(batch), -1))

    views = 2 * len(scales)
    maps = [m / views for m in maps_at_scales(image, scales, network.backbone, logits, device)]
    sizes = image.shape[:2], strided_size(*image.shape[:2])
    kept, left = channels_to_keep(maps, labels, sizes[1])
    stored = [m[0, kept] for m in maps]
    excess = [torch.zeros(0, *size) for size in sizes]
    if len(left):
        others = [m[:, left] for m in maps]
        # Weighted by their shares, the mean follows the sum of exponentials most closely.
        weights = F.softmax(add_resized(others, *sizes[1]), dim=0).mean(dim=(1, 2))
        means = [(m * weights[:, None, None]).sum(dim=1, keepdim=True) for m in others]
        stored = [torch.cat([k, m[0]]) for k, m in zip(stored, means, strict=True)]
        excess = [added_exponentials(others, *s) - add_resized(means, *s) for s in sizes]
    full, strided = (one.cpu().numpy() for one in excess)
    cells = tuple(one.cpu().numpy() for one in stored)
    return AmnMaps(len(labels), cells, full, strided, seed != 0)


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
