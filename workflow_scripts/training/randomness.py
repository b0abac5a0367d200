"""Randomness that is a function of what is drawn, never of when or where; and which images make up a step.

The order of the images is a function of (seed, epoch), an image's augmentation of (seed, epoch, image),
dropout of (seed, step, process). An interrupted and resumed run, or one with more loader processes,
therefore draws the same numbers.
"""

import math
from collections.abc import Iterator

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


def steps_per_epoch(images: int, batch_size: int) -> int:
    """Steps of an epoch; the last batch is filled up with the epoch's first images."""
    return math.ceil(images / batch_size)


def step_batch(seed: int, step: int, images: int, batch_size: int) -> list[tuple[int, int]]:
    """The (epoch, image) pairs of one step, over all processes.

    A set smaller than a batch is repeated, so that every batch has `batch_size` elements.
    """
    steps = steps_per_epoch(images, batch_size)
    epoch, position = divmod(step, steps)
    order = epoch_order(seed, epoch, images)
    chosen = np.take(order, range(position * batch_size, (position + 1) * batch_size), mode="wrap")
    return [(epoch, int(image)) for image in chosen]


class StepSampler:
    """Batches of (epoch, image) pairs from `first` to `last` step, for one of several processes."""

    def __init__(
        self,
        seed: int,
        images: int,
        batch_size: int,
        first: int,
        last: int,
        rank: int = 0,
        processes: int = 1,
    ) -> None:
        self.seed, self.images, self.batch_size = seed, images, batch_size
        self.first, self.last = first, last
        self.rank, self.processes = rank, processes

    def __len__(self) -> int:
        return self.last - self.first

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        for step in range(self.first, self.last):
            batch = step_batch(self.seed, step, self.images, self.batch_size)
            yield batch[self.rank :: self.processes]
