"""Otsu's threshold, moved to where the masks separate the colours of the images.

Histograms of activations know nothing of objects: Otsu's threshold (1979) is too low where objects are small.
The colours of the images know where borders are, but where objects differ little from what is around them,
as on most photographs, their best threshold is one by chance. So the colours say which thresholds are out of
the question, and Otsu's criterion which of the others it is: the one nearest to its own among those whose
masks separate the colours as well as the best, within a standard error (the rule by which Breiman et al. 1984
prune trees) or 3 %. Designed for this workflow; figures stand in docs/thresholds.md.
"""

from collections.abc import Iterable
from typing import ClassVar

import numpy as np

from workflow_scripts.doors.threshold_rule import ThresholdRule
from workflow_scripts.evaluation.activation_statistics import ActivationStatistics, SampledImage
from workflow_scripts.threshold_rules.colours import ColourSeparation
from workflow_scripts.threshold_rules.consensus import otsu

# With very many images a standard error is less than what the colours can know of objects.
SHARE_OF_BEST = 0.97


class Contrast(ThresholdRule):
    """The threshold nearest to Otsu's at which colours are separated as well as at any."""

    name: ClassVar[str] = "contrast"
    reads_images: ClassVar[bool] = True

    def choose(self, statistics: ActivationStatistics, sample: Iterable[SampledImage]) -> float:
        """See `ThresholdRule`; raises InputError where the activations hold nothing but one value."""
        separation = ColourSeparation(statistics.thresholds)
        for image in sample:
            separation.update(image.pixels, image.activation)
        return nearest(separation, otsu(statistics))


def nearest(separation: ColourSeparation, wanted: float) -> float:
    """Return the threshold nearest to `wanted` whose masks separate the colours as well as the best."""
    possible = separation.as_good_as_the_best()
    share = separation.curve()
    if separation.images and share.max() > 0:
        possible |= share >= SHARE_OF_BEST * share.max()
    thresholds = separation.thresholds[possible]
    return float(thresholds[np.abs(thresholds - wanted).argmin()])
