"""The median of three rules on the pooled activations that err in different directions.

Otsu's threshold (1979) is too low where objects are small, Fisher's (1936) too high where activations fall
off like an exponential; the entropy's (Kapur, Sahoo and Wong 1985) lies mostly between them. Sources stand
with the functions, figures in docs/thresholds.md.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from workflow_scripts.doors.threshold_rule import ThresholdRule
from workflow_scripts.errors import InputError
from workflow_scripts.evaluation.activation_statistics import ActivationStatistics, SampledImage

# A side with a smaller share of the pixels has no variance worth the name.
_SMALL_SIDE = 1e-3
_NOTHING = (
    "no threshold can be chosen: the activations hold nothing but one value, or no image has a"
    " label. Check the labels of the index and the training of the network, or give a threshold"
    " in the configuration."
)


class Consensus(ThresholdRule):
    """The median of Otsu's, Kapur's and Fisher's thresholds."""

    name: ClassVar[str] = "consensus"

    def choose(self, statistics: ActivationStatistics, sample: Iterable[SampledImage]) -> float:
        """See `ThresholdRule`; raises InputError where the activations hold nothing but one value."""
        return float(np.median([otsu(statistics), maximum_entropy(statistics), fisher(statistics)]))


def between_class_variance(statistics: ActivationStatistics) -> np.ndarray:
    """Return Otsu's between-class variance of the pooled activations at each threshold, float64[T].

    Otsu, "A threshold selection method from gray-level histograms", 1979. The activations are the
    winners' of all images with labels.
    """
    pixels = statistics.counts[1:].sum(axis=0)
    weight = pixels / max(pixels.sum(), 1)
    borders = np.concatenate([[0.0], statistics.thresholds.astype(np.float64), [1.0]])
    centre = (borders[1:] + borders[:-1]) / 2
    above = _above(weight)
    moment = _above(weight * centre)
    total = (weight * centre).sum()
    spread = above * (1 - above)
    variance = np.full(len(above), np.nan)
    return np.divide((moment - above * total) ** 2, spread, out=variance, where=spread > 1e-12)


def otsu(statistics: ActivationStatistics) -> float:
    """Return the threshold of largest between-class variance."""
    return _best(between_class_variance(statistics), statistics.thresholds)


@dataclass(frozen=True)
class _Sides:
    """The pooled activations below and above each of T thresholds: float64[T] each."""

    share: np.ndarray
    mean: np.ndarray
    variance: np.ndarray
    entropy: np.ndarray


def _sides(statistics: ActivationStatistics) -> tuple[_Sides, _Sides]:
    return _sides_of(statistics.counts[1:].sum(axis=0), statistics.thresholds)


def _sides_of(pixels: np.ndarray, thresholds: np.ndarray) -> tuple[_Sides, _Sides]:
    weight = pixels / max(pixels.sum(), 1)
    borders = np.concatenate([[0.0], thresholds.astype(np.float64), [1.0]])
    centre = (borders[1:] + borders[:-1]) / 2
    surprise = -weight * np.log(np.where(weight > 0, weight, 1.0))
    # The values of a bin are spread over it: two values alone have a variance, too.
    square = centre**2 + np.diff(borders) ** 2 / 12
    sums = np.stack([weight, weight * centre, weight * square, surprise])
    above = _above(sums)
    return _side(sums.sum(axis=1, keepdims=True) - above), _side(above)


def _side(sums: np.ndarray) -> _Sides:
    share = np.where(sums[0] > _SMALL_SIDE, sums[0], np.nan)
    mean = sums[1] / share
    variance = np.maximum(sums[2] / share - mean**2, 0.0)
    # With p = weight / share: -sum p log p.
    return _Sides(share, mean, variance, sums[3] / share + np.log(share))


def fisher_ratio(statistics: ActivationStatistics) -> np.ndarray:
    """Return Fisher's ratio of the activations below and above each threshold, float64[T].

    Fisher, "The use of multiple measurements in taxonomic problems", 1936: squared difference of
    the two means over the sum of the two variances. Unlike Otsu's criterion it does not weigh the
    two sides by their pixels, so that small objects count as much as the background around them.
    """
    low, high = _sides(statistics)
    spread = low.variance + high.variance
    ratio = np.full(len(spread), np.nan)
    return np.divide((high.mean - low.mean) ** 2, spread, out=ratio, where=spread > 1e-12)


def fisher(statistics: ActivationStatistics) -> float:
    """Return the threshold of largest Fisher ratio."""
    return _best(fisher_ratio(statistics), statistics.thresholds)


def split_entropy(statistics: ActivationStatistics) -> np.ndarray:
    """Return the entropy of the activations below plus that above each threshold, float64[T].

    Kapur, Sahoo, Wong, "A new method for gray-level picture thresholding using the entropy of the
    histogram", 1985.
    """
    return split_entropy_of(statistics.counts[1:].sum(axis=0), statistics.thresholds)


def split_entropy_of(pixels: np.ndarray, thresholds: np.ndarray) -> np.ndarray:
    """The same of any histogram of activations int64[T+1], float64[T]; NaN where a side is empty."""
    low, high = _sides_of(pixels, thresholds)
    return low.entropy + high.entropy


def maximum_entropy(statistics: ActivationStatistics) -> float:
    """Return the threshold of largest entropy."""
    return _best(split_entropy(statistics), statistics.thresholds)


def _best(scores: np.ndarray, thresholds: np.ndarray) -> float:
    if np.isnan(scores).all():
        raise InputError(_NOTHING)
    at_best = np.flatnonzero(scores == np.nanmax(scores))
    return float(thresholds[at_best[len(at_best) // 2]])


def _above(counts: np.ndarray) -> np.ndarray:
    return np.cumsum(counts[..., ::-1], axis=-1)[..., -2::-1]
