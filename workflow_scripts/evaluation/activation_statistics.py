"""What activations tell about thresholds without any mask: counts, which do not grow with the images."""

from collections.abc import Sequence

import numpy as np

from workflow_scripts.evaluation.sweep_kernel import first_bins, histogram_of_image
from workflow_scripts.storage.masks import IGNORE


class ActivationStatistics:
    """Histogram of the winner's activation by winner class, over images that have labels.

    `counts` int64[C+1, T+1] are pixels by winner class (0: no label) and bin, bins bordered by the
    T thresholds.
    """

    def __init__(self, classes: int, thresholds: np.ndarray) -> None:
        self.thresholds = np.asarray(thresholds, np.float32)
        self.counts = np.zeros((classes + 1, len(self.thresholds) + 1), np.int64)
        self._starts = first_bins(self.thresholds)

    def update(self, activation: np.ndarray, labels: Sequence[int]) -> None:
        """Add an image by its activation float32[k, H, W]."""
        height, width = activation.shape[1:]
        if not labels:
            self.counts[0, 0] += height * width
            return
        channels, _, _, _ = histogram_of_image(
            activation,
            np.zeros((height, width), np.uint8),
            np.full(IGNORE + 1, -1),
            0,
            self.thresholds,
            self._starts,
        )
        self.counts[list(labels)] += channels[0]
