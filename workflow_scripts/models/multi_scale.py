"""Multi-scale inference with mirror images."""

import logging
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import TypeVar

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from workflow_scripts.models.feature_maps import Backbone
from workflow_scripts.models.views import normalised, resize, upload

logger = logging.getLogger(__name__)

Result = TypeVar("Result")

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
        batch = batch.contiguous(memory_format=torch.channels_last)
        rows = [] if given is None else [torch.cat([given, given]) if flip else given]

        def of_some(some: slice, arguments: Sequence[Tensor] = (batch, *rows)) -> list[Tensor]:
            return [maps_of(*(argument[some] for argument in arguments))]

        with _exact_where_narrow(size[1], device):
            maps = torch.cat(in_halves(of_some, len(batch))).float()
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


def in_halves(
    compute: Callable[[slice], Sequence[Result]], count: int, first: int = 0
) -> list[Result]:
    """Results of images in a row; where the GPU's memory does not suffice, of halves one after the other.

    Args:
        compute: Results of some of them, by their positions.
        count: How many there are, at least one.
        first: Position of the first.

    Raises:
        torch.OutOfMemoryError: The memory does not suffice for one image.
    """
    try:
        return list(compute(slice(first, first + count)))
    except torch.OutOfMemoryError:
        if count == 1:
            raise
    # Outside of the handler, which would keep the tensors of the failed attempt alive.
    torch.cuda.empty_cache()
    half = count // 2
    logger.warning("out of GPU memory: %d images in two halves", count)
    return [*in_halves(compute, half, first), *in_halves(compute, count - half, first + half)]


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
