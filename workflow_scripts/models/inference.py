"""Multi-scale inference with mirror images."""

from collections.abc import Callable, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from workflow_scripts.datasets.transforms import normalise, rescale
from workflow_scripts.models.backbones import Backbone


@torch.inference_mode()
def sum_over_scales(
    image: np.ndarray,
    scales: Sequence[float],
    size: tuple[int, int],
    backbone: Backbone,
    maps_of: Callable[[Tensor], Tensor],
    device: torch.device,
    flip: bool = True,
    multiple: int = 1,
) -> Tensor:
    """Maps of an image at several scales, turned back, resized bilinearly and added up.

    Args:
        image: uint8 [H, W, 3].
        scales: Factors; the image is resized by bicubic interpolation.
        size: Height and width of the result.
        backbone: Its normalisation is used.
        maps_of: From normalised images [B, 3, h, w] to maps [B, K, h', w'].
        device: Where to compute.
        flip: Also use the mirror image of each scale.
        multiple: Maps are resized to `size` rounded up to a multiple of this, then cropped: so cells of
            the feature map keep their place where the image's size is no multiple of the stride.

    Returns:
        float32 [K, *size], the sum over scales and mirror images.
    """
    height, width = size
    rounded = tuple(-(-side // multiple) * multiple for side in size)
    total: Tensor | None = None
    for scale in scales:
        view = torch.from_numpy(normalise(rescale(image, scale), backbone.mean, backbone.std))
        batch = torch.stack([view, view.flip(-1)]) if flip else view[None]
        maps = maps_of(batch.to(device).contiguous(memory_format=torch.channels_last)).float()
        if flip:
            maps = maps[:1] + maps[1:].flip(-1)
        resized = F.interpolate(maps, size=rounded, mode="bilinear", align_corners=False)[0]
        total = resized if total is None else total + resized
    assert total is not None
    return total[:, :height, :width]


def normalise_by_maximum(activations: Tensor) -> Tensor:
    """Each channel divided by its maximum (+1e-5): [K, h, w] → [K, h, w] in 0…1."""
    return activations / (activations.amax(dim=(1, 2), keepdim=True) + 1e-5)


def mixed_normalisation(probabilities: Tensor, seed: Tensor) -> Tensor:
    """AMN's activations from its probabilities (published code; PAPER section 3).

    Where the seed of the image is not background (foreground or ignored), each channel is min-max
    normalised over the image; where it is background, the probability stays.

    Args:
        probabilities: [K, h, w], without the background channel.
        seed: [h, w], 0 is background.

    Returns:
        [K, h, w] in 0…1.
    """
    low = probabilities.amin(dim=(1, 2), keepdim=True)
    high = probabilities.amax(dim=(1, 2), keepdim=True)
    stretched = (probabilities - low) / (high - low + 1e-5)
    return torch.where(seed[None] != 0, stretched, probabilities)
