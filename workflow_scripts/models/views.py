"""Images as a network sees them, made where it computes: uploaded, resized, normalised.

Images travel to a GPU as bytes, a twentieth of what their views in float32 at four scales with mirror
images would be, and are resized there. A CPU resizes with Pillow, whose vector code takes a third of the
time. Both give the same bytes: what a network sees does not depend on the device.
"""

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from workflow_scripts.datasets.transforms import rescale_to

# Pillow's arithmetic: weights are multiples of 2 ** -22, sums are rounded to bytes after each axis.
PRECISION = 22
# Bicubic interpolation: its parameter, and how far it reaches, in pixels of the smaller image.
SHARPNESS, SUPPORT = -0.5, 2.0
HIGHEST = 255


def upload(images: Sequence[np.ndarray], device: torch.device) -> Tensor:
    """Images uint8 [H, W, 3] of one size on a device: [B, H, W, 3].

    Copies from page-locked memory do not wait.
    """
    # Torch warns of arrays that nobody may write to; nobody does.
    tensors = [
        torch.from_numpy(image if image.flags.writeable else image.copy()) for image in images
    ]
    return torch.stack([tensor.to(device, non_blocking=True) for tensor in tensors])


def downloaded(tensors: Sequence[Tensor]) -> list[np.ndarray]:
    """float32 tensors of any shapes as arrays, copied from the device at once: every copy waits for it."""
    together = torch.cat([tensor.reshape(-1) for tensor in tensors]).cpu().numpy()
    ends = np.cumsum([tensor.numel() for tensor in tensors])
    parts = np.split(together, ends[:-1])
    return [part.reshape(tensor.shape) for part, tensor in zip(parts, tensors, strict=True)]


def normalised(pixels: Tensor, mean: Sequence[float], std: Sequence[float]) -> Tensor:
    """Pixels 0…255 [B, H, W, 3] → float32 [B, 3, H, W] in channels_last, as `transforms.normalise`."""
    scale, shift = _scale_and_shift(tuple(mean), tuple(std), pixels.device)
    return torch.div(pixels, scale).sub_(shift).permute(0, 3, 1, 2)


@lru_cache(maxsize=16)
def _scale_and_shift(
    mean: tuple[float, ...], std: tuple[float, ...], device: torch.device
) -> tuple[Tensor, Tensor]:
    """Float32 [3] each. They stay on the device: to copy them would wait for all that it has to do."""
    scale = np.float32(HIGHEST) * np.asarray(std, np.float32)
    shift = np.asarray(mean, np.float32) / np.asarray(std, np.float32)
    return torch.from_numpy(scale).to(device), torch.from_numpy(shift).to(device)


def normalised_crops(
    pixels: Tensor, places: Tensor, mean: Sequence[float], std: Sequence[float]
) -> Tensor:
    """Crops [B, S, S, 3] of training images → float32 [B, 3, S, S] in channels_last, 0 in their padding.

    Args:
        pixels: uint8 or float32, 0…255.
        places: Where the images lie in them, int64 [B, 4]: see `transforms.Crop`.
        mean: See `transforms.normalise`.
        std: The same.
    """
    axis = torch.arange(pixels.shape[1], device=pixels.device)
    top, bottom, left, right = places[:, :, None].unbind(1)
    rows, columns = (axis >= top) & (axis < bottom), (axis >= left) & (axis < right)
    outside = ~(rows[:, None, :, None] & columns[:, None, None, :])
    return normalised(pixels, mean, std).masked_fill_(outside, 0)


def resize(pixels: Tensor, height: int, width: int) -> Tensor:
    """Bicubic resize of images uint8 [B, H, W, 3], to the bytes that Pillow gives."""
    if pixels.shape[1:3] == (height, width):
        return pixels
    if pixels.device.type == "cpu":
        resized = [rescale_to(one.numpy(), height, width) for one in pixels]
        return torch.from_numpy(np.stack(resized))
    return resize_by_integers(pixels, height, width)


def resize_by_integers(pixels: Tensor, height: int, width: int) -> Tensor:
    """The same by operations that any device has, in whole numbers, which no device rounds its own way."""
    return _resize_axis(_resize_axis(pixels, 2, width), 1, height)


def _resize_axis(pixels: Tensor, axis: int, length: int) -> Tensor:
    if pixels.shape[axis] == length:
        return pixels
    places, weights = _taps(pixels.shape[axis], length, pixels.device)
    shape = [1, 1, 1, 1]
    shape[axis] = length
    total = torch.full((), 1 << (PRECISION - 1), dtype=torch.int32, device=pixels.device)
    for place, weight in zip(places, weights, strict=True):
        total = total + pixels.index_select(axis, place).int() * weight.reshape(shape)
    return (total >> PRECISION).clamp_(0, HIGHEST).to(torch.uint8)


@lru_cache(maxsize=64)
def _taps(length: int, wanted: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Which pixels of an axis make up each of `wanted` ones: places int64 and weights int32 [taps, wanted].

    As Pillow has them: pixels whose middle lies within the support, which grows where an image shrinks.
    """
    step = length / wanted
    reach = max(step, 1.0)
    support = SUPPORT * reach
    centre = (np.arange(wanted) + 0.5) * step
    first = np.maximum((centre - support + 0.5).astype(np.int64), 0)
    last = np.minimum((centre + support + 0.5).astype(np.int64), length)
    taps = int((last - first).max())
    places = first + np.arange(taps)[:, None]
    inside = places < last
    weights = np.where(inside, _bicubic((places - centre + 0.5) / reach), 0.0)
    weights /= weights.sum(axis=0)
    # Halves are rounded away from 0.
    whole = np.trunc(weights * (1 << PRECISION) + np.copysign(0.5, weights)).astype(np.int32)
    places = np.minimum(places, length - 1)
    return torch.from_numpy(places).to(device), torch.from_numpy(whole).to(device)


def _bicubic(x: np.ndarray) -> np.ndarray:
    a, x = SHARPNESS, np.abs(x)
    inner = ((a + 2) * x - (a + 3)) * x * x + 1
    outer = (((x - 5) * x + 8) * x - 4) * a
    return np.where(x < 1, inner, np.where(x < SUPPORT, outer, 0.0))
