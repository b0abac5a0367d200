"""Boundary IoU: intersection over union of the inner borders of masks.

Cheng et al., "Boundary IoU: Improving Object-Centric Image Segmentation Evaluation", CVPR 2021. The
border of a class's region are its pixels within a distance d of its outside (steps along the eight
neighbours; the outside of the image counts), d being 2 % of the image's diagonal. Counts are added
over images before they are divided, as for mIoU.
"""

import numpy as np

from workflow_scripts.evaluation.confusion import iou_of_counts, mean_of_present
from workflow_scripts.storage.masks import IGNORE

DIAGONAL_SHARE = 0.02


def border(region: np.ndarray, distance: int) -> np.ndarray:
    """Return the pixels of bool[H, W] within `distance` steps of a pixel outside."""
    side = 2 * distance + 1
    sums = np.pad(region, distance).astype(np.int64).cumsum(axis=0).cumsum(axis=1)
    sums = np.pad(sums, ((1, 0), (1, 0)))
    inside = sums[side:, side:] - sums[:-side, side:] - sums[side:, :-side] + sums[:-side, :-side]
    return region & (inside < side * side)


class BoundaryIou:
    """Border pixels by class, int64[3, C+1]: in both masks, in truth, in prediction."""

    def __init__(self, classes: int) -> None:
        self.counts = np.zeros((3, classes + 1), np.int64)

    def update(self, truth: np.ndarray, prediction: np.ndarray) -> None:
        """Add an image, uint8[H, W] each; pixels of truth 255 do not count."""
        distance = max(1, round(DIAGONAL_SHARE * float(np.hypot(*truth.shape))))
        counted = truth != IGNORE
        occurs = np.bincount(truth.ravel(), minlength=256) + np.bincount(
            prediction.ravel(), minlength=256
        )
        for label in np.flatnonzero(occurs[: self.counts.shape[1]]):
            in_truth, in_prediction = truth == label, prediction == label
            borders = [border(region, distance) & counted for region in (in_truth, in_prediction)]
            self.counts[0, label] += np.count_nonzero(borders[0] & borders[1])
            self.counts[1, label] += np.count_nonzero(borders[0])
            self.counts[2, label] += np.count_nonzero(borders[1])

    def iou(self) -> np.ndarray:
        """Return the boundary IoU of each class, float64[C+1]; NaN where it never occurs."""
        return iou_of_counts(*self.counts)

    def mean(self) -> float:
        """Return the mean over the classes that occur."""
        return float(mean_of_present(self.iou()))
