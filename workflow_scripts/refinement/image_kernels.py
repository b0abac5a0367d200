"""The two Gaussian kernels of an image (Krähenbühl & Koltun 2011, equation 3) as lattices."""

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from workflow_scripts.refinement.filtering import normalise
from workflow_scripts.refinement.permutohedral import Lattice, build
from workflow_scripts.refinement.simplices import BLOCK
from workflow_scripts.settings.dense_crf import CrfSettings

TILE = 32
CACHED_SIZES = 8
CACHED_PIXELS = 1 << 20

Kernel = tuple[Lattice, NDArray[np.float32]]


@lru_cache(maxsize=CACHED_SIZES)
def _tile_order(height: int, width: int) -> NDArray[np.int32]:
    """Pixels tile by tile, int32[H·W]: neighbours in a tile share vertices that stay in the cache."""
    y, x = np.divmod(np.arange(height * width, dtype=np.int32), np.int32(width))
    return np.lexsort((x, y, x // TILE, y // TILE)).astype(np.int32)


def _normalised(features: NDArray[np.float32], first: int) -> Kernel:
    """The lattice with symmetric normalisation in its weights, and the filtered constant 1."""
    n = features.shape[1]
    lattice = build(features, first, padded=-(-n // BLOCK) * BLOCK)
    return lattice, normalise(lattice, n)


def _place(order: NDArray[np.int32], width: int, sxy: float) -> NDArray[np.float32]:
    y, x = np.divmod(order, np.int32(width))
    return np.stack([x, y]).astype(np.float32) / np.float32(sxy)


@lru_cache(maxsize=CACHED_SIZES)
def _spatial(height: int, width: int, sxy: float) -> Kernel:
    """The kernel over positions: the same for every image of a size."""
    return _normalised(_place(_tile_order(height, width), width, sxy), 0)


def image_kernels(
    image: NDArray[np.uint8], settings: CrfSettings
) -> tuple[NDArray[np.int32], list[tuple[Lattice, NDArray[np.float32], float]]]:
    """Order of the pixels and the kernels that are on.

    Args:
        image: uint8[H, W, 3].
        settings: Standard deviations and compatibilities; a compatibility of 0 turns a kernel off.

    Returns:
        int32[H·W], and (lattice, filtered constant 1, compatibility) of each kernel.
    """
    height, width = image.shape[:2]
    order = _tile_order(height, width)
    kernels = []
    first = 0
    if settings.gaussian_compat:
        # Of a large image the lattice is too much memory to keep.
        spatial = _spatial if order.size <= CACHED_PIXELS else _spatial.__wrapped__
        kernel = spatial(height, width, settings.gaussian_sxy)
        first = kernel[0].size
        kernels.append((*kernel, settings.gaussian_compat))
    if settings.bilateral_compat:
        features = np.empty((5, order.size), np.float32)
        features[:2] = _place(order, width, settings.bilateral_sxy)
        features[2:] = image.reshape(-1, 3)[order].T
        features[2:] /= np.float32(settings.bilateral_srgb)
        kernels.append((*_normalised(features, first), settings.bilateral_compat))
    return order, kernels
