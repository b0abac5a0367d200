"""Multi-scale inference with mirror images."""

import logging
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from workflow_scripts.models.feature_maps import Backbone
from workflow_scripts.models.views import normalised, resize, upload

logger = logging.getLogger(__name__)

# Width in pixels up to which a feature map of stride 16 has one column.
NARROW = 16


@torch.inference_mode()
def maps_at_scales(
    images: np.ndarray | Sequence[np.ndarray],
    scales: Sequence[float],
    backbone: Backbone,
    maps_of: Callable[..., Tensor],
    device: torch.device,
    flip: bool = True,
    given: Tensor | None = None,
) -> list[Tensor]:
    """Maps of an image at several scales, those of its mirror images turned back and added.

    Args:
        images: uint8 [H, W, 3]; or several of one size, which are computed together.
        scales: Factors; the image is resized by bicubic interpolation.
        backbone: Its normalisation is used.
        maps_of: From normalised images [V, 3, h, w], which are images and mirror images, to maps
            [V, K, h', w'].
        device: Where to compute.
        flip: Also use the mirror image of each scale.
        given: What else `maps_of` takes, a row for each of its images: [B, …], of each of `images`.

    Returns:
        float32 [B, K, h', w'] of each scale; B is 1 for one image.
    """
    pictures = [images] if isinstance(images, np.ndarray) else images
    pixels = upload(pictures, device)
    merged = []
    for scale in scales:
        size = size_of_view(pictures[0].shape, scale, backbone)
        views = normalised(resize(pixels, *size), backbone.mean, backbone.std)
        batch = torch.cat([views, views.flip(-1)]) if flip else views
        rows = [] if given is None else [torch.cat([given, given]) if flip else given]
        with _exact_where_narrow(size[1], device):
            batch = batch.contiguous(memory_format=torch.channels_last)
            maps = in_halves(maps_of, batch, *rows).float()
        if flip:
            maps = maps[: len(pictures)] + maps[len(pictures) :].flip(-1)
        merged.append(maps)
    return merged


def size_of_view(shape: Sequence[int], scale: float, backbone: Backbone) -> tuple[int, int]:
    """Rows and columns of an image [H, W, …] at a scale: whole patches where the backbone would pad it."""
    sides = [max(1, round(side * scale)) for side in shape[:2]]
    if backbone.pads:
        sides = [max(1, round(side / backbone.stride)) * backbone.stride for side in sides]
    return sides[0], sides[1]


def in_halves(maps_of: Callable[..., Tensor], *batch: Tensor) -> Tensor:
    """Maps of a batch; where the GPU's memory does not suffice, of its halves one after the other.

    Args:
        maps_of: From images [B, …], and what else is of them, to maps [B, …], each image on its own.
        batch: Its arguments, of at least one image.

    Raises:
        torch.OutOfMemoryError: The memory does not suffice for one image.
    """
    images = len(batch[0])
    try:
        return maps_of(*batch)
    except torch.OutOfMemoryError:
        if images == 1:
            raise
    # Outside of the handler, which would keep the tensors of the failed attempt alive.
    torch.cuda.empty_cache()
    logger.warning("out of GPU memory: going on with batches of %d", images // 2)
    halves = zip(*(part.tensor_split([images // 2]) for part in batch), strict=True)
    return torch.cat([in_halves(maps_of, *half) for half in halves])


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
        maps: float32 [1, K, h', w'] of each scale, of one image.
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
