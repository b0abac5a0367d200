"""The masks of a coarse grid of thresholds after dense CRF refinement, against truth."""

from collections.abc import Sequence
from typing import Self

import numpy as np

from workflow_scripts.evaluation.confusion import Confusion
from workflow_scripts.evaluation.threshold_curve import ThresholdCurve


class RefinedSweep:
    """Confusion counts int64[P, C+1, C+1] at P thresholds, and each image's mean IoU there."""

    def __init__(self, classes: int, thresholds: Sequence[float] | np.ndarray) -> None:
        self.thresholds = np.asarray(thresholds, np.float32)
        self._confusions = [Confusion.empty(classes) for _ in self.thresholds]
        self._iou: list[np.ndarray] = []

    @property
    def classes(self) -> int:
        """Number of classes, background not counted."""
        return self.counts.shape[1] - 1

    @property
    def counts(self) -> np.ndarray:
        """Counts int64[P, C+1, C+1] by threshold, true class and predicted class."""
        return np.stack([confusion.counts[:, :-1] for confusion in self._confusions])

    def update(self, truth: np.ndarray, refined: Sequence[np.ndarray] | np.ndarray) -> None:
        """Add an image: truth uint8[H, W] and the refined labels uint8[P, H, W].

        Raises ValueError when shapes do not fit or a value is no class.
        """
        if len(refined) != len(self._confusions):
            raise ValueError(f"{len(refined)} masks for {len(self._confusions)} thresholds")
        alone = [c.update(truth, mask) for c, mask in zip(self._confusions, refined, strict=True)]
        self._iou.append(np.array([c.mean_iou("skip") for c in alone], np.float32))

    def curve(self) -> ThresholdCurve:
        """Return the figures of all images together at every threshold."""
        return ThresholdCurve(self.thresholds, self.counts)

    def image_iou(self) -> np.ndarray:
        """Return the mean IoU of each image at each threshold, float32[N, P]."""
        return np.array(self._iou, np.float32).reshape(-1, len(self.thresholds))

    def merge(self, other: "RefinedSweep") -> None:
        """Append another sweep over other images with the same classes and thresholds."""
        if self.counts.shape != other.counts.shape or (self.thresholds != other.thresholds).any():
            raise ValueError("sweeps of different classes or thresholds cannot be merged")
        for mine, theirs in zip(self._confusions, other._confusions, strict=True):
            mine.merge(theirs)
        self._iou += other._iou

    def tensors(self) -> dict[str, np.ndarray]:
        """Return what a file has to hold."""
        return {
            "refined_thresholds": self.thresholds,
            "refined_counts": self.counts,
            "refined_image_iou": self.image_iou(),
        }

    @classmethod
    def from_tensors(cls, tensors: dict[str, np.ndarray]) -> Self:
        """Return the sweep whose `tensors` these are."""
        counts = tensors["refined_counts"]
        sweep = cls(counts.shape[1] - 1, tensors["refined_thresholds"])
        sweep._confusions = [Confusion(np.pad(one, ((0, 0), (0, 1)))) for one in counts]
        sweep._iou = list(tensors["refined_image_iou"])
        return sweep
