"""What a method's activations of full size are made of, before they are stored and after."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import ClassVar, Self

import numpy as np


class FullMap(ABC):
    """An activation of an image that a shard holds in parts, in less space than its pixels take.

    Attributes:
        names: What the parts are called, in the order in which `stored` returns them.
        height: Rows of the image.
        width: Columns of the image.
    """

    names: ClassVar[tuple[str, ...]]
    height: int
    width: int

    @abstractmethod
    def activation(self) -> np.ndarray:
        """The values that thresholds cut, float32 [k, H, W] in 0…1."""

    @abstractmethod
    def stored(self) -> tuple[np.ndarray, ...]:
        """Reduce to the parts that a shard holds."""

    @classmethod
    @abstractmethod
    def restored(cls, parts: Sequence[np.ndarray], height: int, width: int) -> Self:
        """Put the parts together for an image of a size; raises ValueError when they do not fit."""

    def as_stored(self) -> Self:
        """Return what comes back from a shard, so that the same pixels cross a threshold."""
        return self.restored(self.stored(), self.height, self.width)
