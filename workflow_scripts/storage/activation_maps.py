"""What a network's activations of an image are made of, before they are stored and after."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import ClassVar, Self

import numpy as np


class ActivationMaps(ABC):
    """The maps of an image at the resolution at which a network made them, scale by scale.

    The two maps that the published methods use, of stride 4 and of full size, are made of the same few
    maps of stride 16, enlarged in two ways: these are stored instead.

    Attributes:
        kind: What a shard of such maps calls itself.
        names: What the tensors are called that a shard holds, in the order in which `stored` returns them.
        channels: Number of the image's labels, k.
        height: Rows of the image.
        width: Columns of the image.
    """

    kind: ClassVar[str]
    names: ClassVar[tuple[str, ...]]
    channels: int
    height: int
    width: int

    @abstractmethod
    def activation(self) -> np.ndarray:
        """The map of full size, which thresholds cut into labels, float32 [k, H, W] in 0…1."""

    @abstractmethod
    def strided(self) -> np.ndarray:
        """The map of stride 4, which boundaries spread, float32 [k, ceil(H/4), ceil(W/4)] in 0…1."""

    @abstractmethod
    def stored(self) -> tuple[np.ndarray, ...]:
        """Reduce to the tensors that a shard holds."""

    @classmethod
    @abstractmethod
    def restored(cls, tensors: Sequence[np.ndarray], height: int, width: int) -> Self:
        """Put the tensors together for an image of a size; raises ValueError when they do not fit."""

    def as_stored(self) -> Self:
        """Return what comes back from a shard, so that the same pixels cross a threshold."""
        return self.restored(self.stored(), self.height, self.width)
