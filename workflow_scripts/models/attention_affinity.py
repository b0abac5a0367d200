"""Activations spread over the cells of an image that belong together.

The class-aware attention-based affinity of CLIP-ES (Lin et al., "CLIP is also an efficient segmenter", CVPR
2023), with its published numbers: a transformer's attention, averaged over heads and last blocks, is
Sinkhorn-normalised three times, made symmetric, squared, and applied to activations from within their boxes.
Activations begin at 0 before and after that. One departure from the published code, whose boxes end one cell
before the image's right and lower border: here they reach it.
"""

from collections import deque
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode

from workflow_scripts.errors import InputError

ROUNDS, STEPS = 3, 2
# Cells of a view above which an affinity, of their square, would take more than 256 MB.
MOST_CELLS = 8192
TINY = 1e-12


class AttentionRecorder(TorchFunctionMode):
    """While it is entered, keeps queries and keys of the last calls of scaled dot-product attention.

    Normalisations and rotary embeddings have been applied to them already, whatever the network.
    """

    def __init__(self, last: int) -> None:
        super().__init__()
        self._calls: deque[tuple[Tensor, Tensor, float]] = deque(maxlen=last)

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        """See `TorchFunctionMode`."""
        kwargs = kwargs or {}
        if func is F.scaled_dot_product_attention:
            query, key = args[:2]
            scale = kwargs.get("scale") or query.shape[-1] ** -0.5
            self._calls.append((query.detach(), key.detach(), scale))
        return func(*args, **kwargs)

    def mean(self, cells: int) -> Tensor:
        """Attention among the last tokens, averaged over heads and calls.

        Args:
            cells: n, how many tokens are cells of the image; class and register tokens stand before them.

        Returns:
            float32 [B, n, n]: a row for each cell that attends.

        Raises:
            InputError: No attention was recorded, or there are too many cells.
        """
        if not self._calls:
            raise InputError(
                "affinity.source: this network computes its attention in a way that cannot be recorded; "
                "use `features`"
            )
        check_cells(cells)
        total: Tensor | None = None
        heads = 0
        for query, key, scale in self._calls:
            with torch.autocast(query.device.type, enabled=False):
                for head in range(query.shape[1]):
                    scores = query[:, head].float() @ key[:, head].float().mT * scale
                    attention = scores.softmax(dim=-1)[:, -cells:, -cells:]
                    total = attention if total is None else total.add_(attention)
                    heads += 1
        assert total is not None
        return total.div_(heads)


def check_cells(cells: int) -> None:
    """See that the affinity of a view fits into memory.

    Raises:
        InputError: It has too many cells.
    """
    if cells > MOST_CELLS:
        raise InputError(
            f"a view has {cells} cells of the network, whose affinity would be of {cells}² numbers; at most "
            f"{MOST_CELLS} are taken: leave out the largest of `scales`, or store the images smaller "
            "(`python -m workflow_scripts.resize_dataset`)"
        )


def feature_likeness(features: Tensor, temperature: float) -> Tensor:
    """What stands in for attention where a network has none: a softmax over the cosines of features.

    Args:
        features: [B, C, h, w].
        temperature: What cosines are divided by.

    Returns:
        float32 [B, h·w, h·w], rows add up to 1.
    """
    check_cells(features.shape[-2] * features.shape[-1])
    cells = F.normalize(features.flatten(2).float(), dim=1)
    with torch.autocast(features.device.type, enabled=False):
        return (cells.mT @ cells / temperature).softmax(dim=-1)


def affinity(attention: Tensor) -> Tensor:
    """Attention made doubly stochastic, columns first, and symmetric: [B, n, n] → [B, n, n]."""
    for _ in range(ROUNDS):
        attention = attention / attention.sum(dim=-2, keepdim=True).clamp(min=TINY)
        attention = attention / attention.sum(dim=-1, keepdim=True).clamp(min=TINY)
    return (attention + attention.mT) / 2


def inside_boxes(maps: Tensor, threshold: float) -> Tensor:
    """Cells inside the boxes around connected parts (of eight neighbours) above a share of the maximum.

    Args:
        maps: [K, h, w] ≥ 0.
        threshold: The share.

    Returns:
        bool [K, h, w].
    """
    # Imported where activations are spread, not wherever there is a network.
    from scipy import ndimage

    above = (maps > threshold * maps.amax(dim=(1, 2), keepdim=True)).cpu().numpy()
    found = np.zeros_like(above)
    for one, inside in zip(above, found, strict=True):
        parts, _ = ndimage.label(one, np.ones((3, 3)))
        for box in ndimage.find_objects(parts):
            inside[box] = True
    return torch.from_numpy(found).to(maps.device)


def spread(maps: Tensor, affinities: Tensor, box: float) -> Tensor:
    """Activations from within their boxes, moved twice over the affinity; the lowest cell is 0, as published.

    Args:
        maps: [B, K, h, w] ≥ 0.
        affinities: Of each image, [B, h·w, h·w], see `affinity`.
        box: See `inside_boxes`.

    Returns:
        float32 [B, K, h, w] ≥ 0.
    """
    maps = _above_lowest(maps.float())
    # Of all images together: each look at numbers waits for the device.
    inside = inside_boxes(maps.flatten(0, 1), box).view_as(maps)
    cells = (maps * inside).flatten(2).mT
    with torch.autocast(maps.device.type, enabled=False):
        for _ in range(STEPS):
            cells = affinities.float() @ cells
    # An affinity of softmaxes has no zeros: every cell has got something of every other.
    return _above_lowest(cells.mT.reshape(maps.shape))


def _above_lowest(maps: Tensor) -> Tensor:
    """Maps [B, K, h, w] less the lowest cell of each."""
    return maps - maps.amin(dim=(2, 3), keepdim=True)
