"""Figures at a row of thresholds, read off one confusion matrix for each."""

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

from workflow_scripts.evaluation.confusion import Confusion, mean_of_present

PLATEAU = 0.95


@dataclass(frozen=True)
class ThresholdCurve:
    """Confusion counts int64[T, C+1, C+1] at T thresholds and what follows from them.

    All shares and IoUs are 0…1. Means over classes include the background and leave out classes
    that occur in neither truth nor prediction (for precision: never predicted; for recall: not in
    truth).
    """

    thresholds: np.ndarray
    confusions: np.ndarray
    iou: np.ndarray = field(init=False)
    """float64[T, C+1], NaN where a class does not occur."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "iou", np.array([c.iou("skip") for c in self._matrices()]))

    def _matrices(self) -> Iterator[Confusion]:
        return map(self.at, range(len(self.thresholds)))

    def at(self, position: int) -> Confusion:
        """Return the confusion matrix at one threshold."""
        return Confusion(np.pad(self.confusions[position], ((0, 0), (0, 1))))

    @property
    def miou(self) -> np.ndarray:
        """Mean IoU at each threshold, float64[T]."""
        return mean_of_present(self.iou)

    @property
    def precision(self) -> np.ndarray:
        """Mean precision over classes at each threshold, float64[T]."""
        return np.array([mean_of_present(c.precision("skip")) for c in self._matrices()])

    @property
    def recall(self) -> np.ndarray:
        """Mean recall over classes at each threshold, float64[T]."""
        return np.array([mean_of_present(c.recall("skip")) for c in self._matrices()])

    @property
    def best(self) -> int:
        """Position of the largest mean IoU, the first one among equals."""
        return int(np.argmax(self.miou))

    @property
    def plateau(self) -> float:
        """Share of the thresholds whose mean IoU is at least 95 % of the best."""
        return float((self.miou >= PLATEAU * self.miou.max()).mean())

    def miou_at(self, threshold: float) -> float:
        """Return the mean IoU at any threshold, interpolated linearly between the curve's."""
        return float(np.interp(threshold, self.thresholds, self.miou))
