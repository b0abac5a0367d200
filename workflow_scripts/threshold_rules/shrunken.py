"""Thresholds of classes and images, shrunk towards that of all images by how little is known of each.

The entropy of the histogram of a class's or image's own activations prefers some threshold (Kapur, Sahoo and
Wong 1985); to it is added the entropy of all images, as often as the prior weighs. So a class that few images
show, or an image whose histogram prefers nothing, stays at the threshold of all. No mask takes part. Where
this helps and where it does not stands in docs/thresholds.md.
"""

from collections.abc import Iterable
from typing import ClassVar

import numpy as np

from workflow_scripts.doors.threshold_rule import ThresholdRule
from workflow_scripts.evaluation.activation_statistics import ActivationStatistics, SampledImage
from workflow_scripts.threshold_rules.consensus import maximum_entropy, split_entropy_of

# As how many images of a class, and as how many times an image, all images together weigh.
CLASS_PRIOR = 20.0
IMAGE_PRIOR = 4.0


class Shrunken(ThresholdRule):
    """Entropy for all; for classes and images their own, held by that of all."""

    name: ClassVar[str] = "shrunken"
    by_image: ClassVar[bool] = True

    def choose(self, statistics: ActivationStatistics, sample: Iterable[SampledImage]) -> float:
        """See `ThresholdRule`; raises InputError where the activations hold nothing but one value."""
        return maximum_entropy(statistics)

    def of_classes(self, statistics: ActivationStatistics, threshold: float) -> dict[int, float]:
        """See `ThresholdRule`."""
        return {
            number: _held(counts, statistics, CLASS_PRIOR / statistics.images[number])
            for number, counts in enumerate(statistics.counts)
            if number and counts.any()
        }

    def of_image(
        self, counts: np.ndarray, statistics: ActivationStatistics, threshold: float
    ) -> float:
        """See `ThresholdRule`."""
        return _held(counts, statistics, IMAGE_PRIOR)


def _held(counts: np.ndarray, statistics: ActivationStatistics, weight: float) -> float:
    """Threshold of largest entropy of some pixels, plus `weight` times that of all."""
    every = split_entropy_of(statistics.counts[1:].sum(axis=0), statistics.thresholds)
    own = split_entropy_of(counts, statistics.thresholds)
    # Where one of the sides is empty, its own histogram has no say.
    own = np.where(np.isnan(own), np.nanmin(own, initial=0.0), own)
    return float(statistics.thresholds[int(np.nanargmax(own + weight * every))])
