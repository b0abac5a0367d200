"""Randomness that is a function of what is drawn, never of when or where.

The order of the images is a function of (seed, epoch), an image's augmentation of (seed, epoch, image),
dropout of (seed, step, process). An interrupted and resumed run, or one with more loader processes,
therefore draws the same numbers.
"""

import numpy as np
import torch

ORDER, AUGMENTATION, STEP, INITIALISATION = range(4)


def generator(seed: int, purpose: int, *key: int) -> np.random.Generator:
    """A generator for one purpose, independent of all others."""
    return np.random.default_rng([seed, purpose, *key])


def seed_torch(seed: int, purpose: int, *key: int) -> None:
    """Set torch's own generators, for initialisation and dropout."""
    torch.manual_seed(int(generator(seed, purpose, *key).integers(2**63)))


def epoch_order(seed: int, epoch: int, images: int) -> np.ndarray:
    """Order in which an epoch visits the images: a permutation [images]."""
    return generator(seed, ORDER, epoch).permutation(images)
