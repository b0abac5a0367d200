"""Threshold rules of other people, to be measured beside ours: a plug-in of `compare_thresholds`.

    python -m workflow_scripts.compare_thresholds --run results/study --plugins tools/threshold_baselines.py

They see no mask, as ours do, and may be asked for like ours: `plugins: [tools/threshold_baselines.py]`,
`choose_thresholds: {rule: mixture}`.
"""

from collections.abc import Iterable
from typing import ClassVar

import numpy as np

from workflow_scripts.doors.threshold_rule import ThresholdRule
from workflow_scripts.evaluation.activation_statistics import ActivationStatistics, SampledImage
from workflow_scripts.threshold_rules.consensus import otsu

# CLIP-ES's power of the background: Lin et al., "CLIP is Also an Efficient Segmenter", CVPR 2023.
ALPHA = 10
STEPS = 500
LEAST_DEVIATION = 0.01


def centres(thresholds: np.ndarray) -> np.ndarray:
    """Middle of each bin, float64 [T + 1]."""
    borders = np.concatenate([[0.0], thresholds.astype(np.float64), [1.0]])
    return (borders[1:] + borders[:-1]) / 2


def inside(threshold: float) -> float:
    """A threshold within 0…1, both left out."""
    return float(np.clip(threshold, 0.001, 0.999))


class Otsu(ThresholdRule):
    """Otsu's threshold of the activations of all images (1979)."""

    name: ClassVar[str] = "otsu"

    def choose(self, statistics: ActivationStatistics, sample: Iterable[SampledImage]) -> float:
        """See `ThresholdRule`."""
        return otsu(statistics)


class OtsuPerImage(Otsu):
    """Otsu's threshold of each image; elsewhere, and where an image has one activation only, that of all."""

    name: ClassVar[str] = "otsu_per_image"
    by_image: ClassVar[bool] = True

    def of_image(
        self, counts: np.ndarray, statistics: ActivationStatistics, threshold: float
    ) -> float | None:
        """See `ThresholdRule`."""
        if np.count_nonzero(counts) < 2:
            return None
        alone = ActivationStatistics(1, statistics.thresholds)
        alone.counts[1] = counts
        return otsu(alone)


class Mixture(ThresholdRule):
    """Three normal distributions fitted to the activations, as CoSA does (Yang et al., ECCV 2024).

    The lowest is background, the highest foreground, what is between them unsure: the threshold is the middle
    of the activations at which the middle one is the most probable.
    """

    name: ClassVar[str] = "mixture"

    def choose(self, statistics: ActivationStatistics, sample: Iterable[SampledImage]) -> float:
        """See `ThresholdRule`."""
        means, deviations, shares = mixture(
            centres(statistics.thresholds), statistics.counts[1:].sum(axis=0)
        )
        grid = statistics.thresholds.astype(np.float64)
        density = shares * np.exp(-0.5 * ((grid[:, None] - means) / deviations) ** 2) / deviations
        kind = density.argmax(axis=1)
        # Borders between which the middle one is the most probable; without any, where the outer ones meet.
        between = np.flatnonzero((grid >= means[0]) & (grid <= means[2]))
        low = next((grid[i] for i in between if kind[i] != 0), means[1])
        high = next((grid[i] for i in between if kind[i] == 2), means[2])
        return inside((low + high) / 2)


def mixture(values: np.ndarray, counts: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Means, deviations and shares of three normal distributions by expectation and maximisation.

    Args:
        values: float [n], ascending.
        counts: How often each occurs, [n].
    """
    weights = counts / max(counts.sum(), 1)
    places = np.searchsorted(weights.cumsum(), (1 / 6, 1 / 2, 5 / 6))
    means = values[np.minimum(places, len(values) - 1)]
    deviations, shares = np.full(3, 0.15), np.full(3, 1 / 3)
    for _ in range(STEPS):
        density = shares * np.exp(-0.5 * ((values[:, None] - means) / deviations) ** 2) / deviations
        parts = weights[:, None] * density / (density.sum(axis=1, keepdims=True) + 1e-300)
        shares = parts.sum(axis=0) + 1e-12
        means = (parts * values[:, None]).sum(axis=0) / shares
        variance = (parts * (values[:, None] - means) ** 2).sum(axis=0) / shares
        deviations = np.sqrt(variance + LEAST_DEVIATION**2)
    order = means.argsort()
    return means[order], deviations[order], shares[order]


class Freematch(ThresholdRule):
    """The mean activation, times each class's mean over the largest (Wang et al., FreeMatch, ICLR 2023).

    FreeMatch's threshold of class c is the mean confidence of all predictions, scaled by the class's mean
    predicted probability over the largest of any class; here predictions are the winners' activations.
    """

    name: ClassVar[str] = "freematch"

    def choose(self, statistics: ActivationStatistics, sample: Iterable[SampledImage]) -> float:
        """See `ThresholdRule`."""
        return inside(float(_mean(statistics.counts[1:].sum(axis=0), statistics.thresholds)))

    def of_classes(self, statistics: ActivationStatistics, threshold: float) -> dict[int, float]:
        """See `ThresholdRule`."""
        means = {
            number: _mean(counts, statistics.thresholds)
            for number, counts in enumerate(statistics.counts)
            if number and counts.any()
        }
        largest = max(means.values(), default=1.0)
        return {number: inside(threshold * mean / largest) for number, mean in means.items()}


def _mean(counts: np.ndarray, thresholds: np.ndarray) -> float:
    return float((counts * centres(thresholds)).sum() / max(counts.sum(), 1))


class ClipEs(ThresholdRule):
    """CLIP-ES's background, (1 − max)^α: a pixel is foreground where its largest activation exceeds that.

    As the left side falls and the right side rises with the activation, that is one constant threshold: the
    solution of t = (1 − t)^α, whatever the activations are.
    """

    name: ClassVar[str] = "clip_es"

    def choose(self, statistics: ActivationStatistics, sample: Iterable[SampledImage]) -> float:
        """See `ThresholdRule`."""
        grid = np.linspace(0, 1, 100_001)
        return float(grid[np.argmin(np.abs(grid - (1 - grid) ** ALPHA))])
