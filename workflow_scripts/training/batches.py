"""Which images make up each step."""

import math
from collections.abc import Iterator

import numpy as np

from workflow_scripts.training.randomness import epoch_order


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
