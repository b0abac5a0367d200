"""Paired bootstrap over images: is the difference between two methods' mIoU more than chance?

Images are drawn with replacement, the same ones for both methods (Efron & Tibshirani, "An
Introduction to the Bootstrap", 1993, chapter 13: percentile interval), and mIoU is computed from
the pooled counts of each draw.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from workflow_scripts.evaluation.confusion import (
    Confusion,
    Evaluation,
    Policy,
    iou_of_counts,
    mean_of_present,
)

_DRAWS_AT_ONCE = 50


@dataclass(frozen=True, slots=True)
class PairedDifference:
    """Difference of mIoU (second minus first, 0…1) with its interval over draws of images."""

    difference: float
    low: float
    high: float
    share_above_zero: float
    """Share of draws in which the second method is better."""
    images: int
    draws: int

    @property
    def significant(self) -> bool:
        """Whether the interval excludes zero."""
        return self.low > 0 or self.high < 0


def image_counts(evaluation: Evaluation, ids: Sequence[str], ignored: Policy) -> np.ndarray:
    """Return hits, true and predicted pixels of each image and class, float64[N, 3, C+1]."""
    classes = len(evaluation.classes)
    # Filled in place: what a matrix returns may be a view that keeps all of it alive.
    counts = np.empty((len(ids), 3, classes + 1))
    for row, image_id in zip(counts, ids, strict=True):
        confusion = Confusion.from_cells(classes, evaluation.images[image_id])
        row[:] = confusion.hits_truth_predicted(ignored)
    return counts


def paired_difference(
    first: np.ndarray,
    second: np.ndarray,
    *,
    draws: int = 1000,
    confidence: float = 0.95,
    seed: int = 0,
) -> PairedDifference:
    """Bootstrap the difference of mIoU between two methods on the same images.

    Args:
        first: Counts float64[N, 3, C+1] of `image_counts`.
        second: The same for the other method, images in the same order.
        draws: Number of resamplings.
        confidence: Probability mass of the interval, taken between its percentiles.
        seed: Of the draws.

    Raises ValueError when the shapes differ or there is no image.
    """
    if first.shape != second.shape or not len(first):
        raise ValueError(f"counts of {list(first.shape)} and {list(second.shape)} are no pairs")
    random = np.random.default_rng(seed)
    images = len(first)
    both = np.stack([first, second], axis=1).reshape(images, -1)
    differences: list[np.ndarray] = []
    for start in range(0, draws, _DRAWS_AT_ONCE):
        size = min(_DRAWS_AT_ONCE, draws - start)
        times = random.multinomial(images, np.full(images, 1 / images), size=size)
        differences.append(_difference((times @ both).reshape(size, 2, 3, -1)))
    drawn = np.concatenate(differences)
    low, high = np.quantile(drawn, [(1 - confidence) / 2, (1 + confidence) / 2])
    whole = _difference(both.sum(axis=0).reshape(1, 2, 3, -1))
    return PairedDifference(
        float(whole[0]), float(low), float(high), float((drawn > 0).mean()), images, draws
    )


def _difference(counts: np.ndarray) -> np.ndarray:
    """Return mIoU of the second minus the first, float64[B], from [B, 2, 3, C+1]."""
    hits, truth, predicted = np.moveaxis(counts, 2, 0)
    miou = mean_of_present(iou_of_counts(hits, truth, predicted))
    return miou[:, 1] - miou[:, 0]
