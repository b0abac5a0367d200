"""The threshold whose masks are predicted to have the best mean IoU, by the evidence that `judge` goes by.

Evidence on colours, edges, agreement with a dense CRF, smoothness and size of the masks' regions is weighed
as it was worth on other data, which `judging/calibration.json` names; the masks' own truth takes no part.
Figures and limits stand in docs/thresholds.md.
"""

from collections.abc import Iterable
from typing import ClassVar

import numpy as np

from workflow_scripts.doors.threshold_rule import ThresholdRule
from workflow_scripts.evaluation.activation_statistics import ActivationStatistics, SampledImage
from workflow_scripts.evaluation.confusion import mean_of_present
from workflow_scripts.judging.mask_evidence import evidence
from workflow_scripts.judging.predicted_quality import SetOfMasks, predicted_counts, published
from workflow_scripts.refinement.thresholding import dataset_labels, local_labels

# Thresholds whose masks are judged; between them a parabola through the best and its neighbours decides.
STEP = 0.05
GRID = np.arange(1, round(1 / STEP)) * STEP


class Predicted(ThresholdRule):
    """The best predicted mean IoU."""

    name: ClassVar[str] = "predicted"
    reads_images: ClassVar[bool] = True
    finds_none: ClassVar[str] = "there is no image with a label"

    def choose(
        self, statistics: ActivationStatistics, sample: Iterable[SampledImage]
    ) -> float | None:
        """See `ThresholdRule`."""
        sets = [SetOfMasks() for _ in GRID]
        images = 0
        for image in sample:
            masks = [
                dataset_labels(local_labels(image.activation, threshold), image.labels)
                for threshold in GRID.astype(np.float32)
            ]
            for kept, regions in zip(
                sets, evidence(image.pixels, masks, image.labels), strict=True
            ):
                kept.add(images, regions)
            images += 1
        if not images:
            return None
        classes = len(statistics.counts) - 1
        curve = [
            float(mean_of_present(predicted_counts(kept.table(), published()).class_iou(classes)))
            for kept in sets
        ]
        return peak(np.array(curve))


def peak(curve: np.ndarray) -> float:
    """Where the parabola through the largest of GRID's values and its two neighbours is largest."""
    best = int(np.argmax(curve))
    if 0 < best < len(curve) - 1:
        left, middle, right = curve[best - 1 : best + 2]
        bend = left - 2 * middle + right
        if bend < 0:
            return float(GRID[best] + STEP * 0.5 * (left - right) / bend)
    return float(GRID[best])
