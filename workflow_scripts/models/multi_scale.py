"""Multi-scale inference with mirror images."""

import logging
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from workflow_scripts.datasets.transforms import normalise, rescale, rescale_to
from workflow_scripts.models.feature_maps import Backbone

logger = logging.getLogger(__name__)

# Width in pixels up to which a feature map of stride 16 has one column.
NARROW = 16


@torch.inference_mode()
def maps_at_scales(
    image: np.ndarray,
    scales: Sequence[float],
    backbone: Backbone,
    maps_of: Callable[[Tensor], Tensor],
    device: torch.device,
    flip: bool = True,
) -> list[Tensor]:
    """Maps of an image at several scales, those of its mirror images turned back and added.

    Args:
        image: uint8 [H, W, 3].
        scales: Factors; the image is resized by bicubic interpolation.
        backbone: Its normalisation is used.
        maps_of: From normalised images [B, 3, h, w] to maps [B, K, h', w'].
        device: Where to compute.
        flip: Also use the mirror image of each scale.

    Returns:
        float32 [1, K, h', w'] of each scale.
    """
    merged = []
    for scale in scales:
        view = torch.from_numpy(
            normalise(view_of(image, scale, backbone), backbone.mean, backbone.std)
        )
        batch = torch.stack([view, view.flip(-1)]) if flip else view[None]
        with _exact_where_narrow(view.shape[-1], device):
            batch = batch.to(device).contiguous(memory_format=torch.channels_last)
            maps = in_halves(maps_of, batch).float()
        merged.append(maps[:1] + maps[1:].flip(-1) if flip else maps)
    return merged


def view_of(image: np.ndarray, scale: float, backbone: Backbone) -> np.ndarray:
    """An image at a scale, uint8; of whole patches where the backbone would pad it."""
    view = rescale(image, scale)
    if not backbone.pads:
        return view
    stride = backbone.stride
    height, width = (max(1, round(side / stride)) * stride for side in view.shape[:2])
    return rescale_to(image, height, width)


def in_halves(maps_of: Callable[[Tensor], Tensor], images: Tensor) -> Tensor:
    """Maps of a batch; where the GPU's memory does not suffice, of its halves one after the other.

    Args:
        maps_of: From images [B, …] to maps [B, …], each image on its own.
        images: At least one.

    Raises:
        torch.OutOfMemoryError: The memory does not suffice for one image.
    """
    try:
        return maps_of(images)
    except torch.OutOfMemoryError:
        if len(images) == 1:
            raise
    # Outside of the handler, which would keep the tensors of the failed attempt alive.
    torch.cuda.empty_cache()
    logger.warning("out of GPU memory: going on with batches of %d", len(images) // 2)
    halves = images.tensor_split([len(images) // 2])
    return torch.cat([in_halves(maps_of, half) for half in halves])


def _exact_where_narrow(width: int, device: torch.device) -> AbstractContextManager[object]:
    """float32 for slivers, whatever surrounds.

    torch 2.14 gives wrong values or NaN for a convolution of stride 2 in bfloat16 whose result is one column
    wide, on CPUs with AMX.
    """
    return torch.autocast(device.type, enabled=False) if width <= NARROW else nullcontext()


@torch.inference_mode()
def add_resized(maps: Sequence[Tensor], height: int, width: int) -> Tensor:
    """Maps of several scales, resized bilinearly and added up.

    Args:
        maps: float32 [1, K, h', w'] of each scale.
        height: Rows of the result.
        width: Its columns.

    Returns:
        float32 [K, height, width].
    """
    size = (height, width)
    resized = (F.interpolate(m, size=size, mode="bilinear", align_corners=False) for m in maps)
    first, *others = resized
    return sum(others, first)[0]


@torch.inference_mode()
def resized(maps: np.ndarray, height: int, width: int) -> np.ndarray:
    """Maps float32 [k, h, w] at another size, bilinearly and without aliasing: [k, height, width]."""
    if maps.shape[1:] == (height, width):
        return maps
    result = F.interpolate(
        torch.from_numpy(np.ascontiguousarray(maps))[None],
        size=(height, width),
        mode="bilinear",
        align_corners=False,
        antialias=True,
    )
    return result[0].clamp(0, 1).numpy()
