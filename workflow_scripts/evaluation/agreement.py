"""Agreement of masks with each other, corrected for chance; no ground truth takes part."""

from collections.abc import Sequence

import numpy as np

from workflow_scripts.evaluation.confusion import Confusion


def kappa(counts: np.ndarray) -> np.ndarray:
    """Return Cohen's kappa of square tables [..., L, L]; NaN where both are constant and equal.

    Cohen, "A coefficient of agreement for nominal scales", 1960: observed minus expected agreement
    over one minus expected agreement. Plain agreement favours large masks, kappa does not.
    """
    shares = counts / np.maximum(counts.sum(axis=(-2, -1), keepdims=True), 1)
    observed = np.trace(shares, axis1=-2, axis2=-1)
    expected = (shares.sum(axis=-1) * shares.sum(axis=-2)).sum(axis=-1)
    possible = 1 - expected
    agreement = np.full(np.shape(observed), np.nan)
    return np.divide(observed - expected, possible, out=agreement, where=possible > 1e-12)


class RefinementAgreement:
    """Counts int64[P, C+1, C+1] of thresholded labels against their own CRF refinement."""

    def __init__(self, classes: int, thresholds: Sequence[float] | np.ndarray) -> None:
        self.thresholds = np.asarray(thresholds, np.float32)
        self.counts = np.zeros((len(self.thresholds), classes + 1, classes + 1), np.int64)

    def update(
        self, thresholded: Sequence[np.ndarray], refined: Sequence[np.ndarray] | np.ndarray
    ) -> None:
        """Add an image: labels uint8[P, H, W] before and after refinement."""
        for counts, before, after in zip(self.counts, thresholded, refined, strict=True):
            counts += Confusion.empty(len(counts) - 1).update(before, after).counts[:, :-1]

    def merge(self, other: "RefinementAgreement") -> None:
        """Add the counts of other images with the same classes and thresholds."""
        if self.counts.shape != other.counts.shape or (self.thresholds != other.thresholds).any():
            raise ValueError("agreements of different classes or thresholds cannot be merged")
        self.counts += other.counts


class MethodAgreement:
    """Pixels int64[2, T+1, T+1] by equal winner class (0, 1) and the bins of two activations."""

    def __init__(self, thresholds: Sequence[float] | np.ndarray) -> None:
        self.thresholds = np.asarray(thresholds, np.float32)
        bins = len(self.thresholds) + 1
        self.counts = np.zeros((2, bins, bins), np.int64)

    def update(self, first: np.ndarray, second: np.ndarray) -> None:
        """Add an image by two activations float32[k, H, W] of the same k ≥ 1 labels."""
        bins = len(self.thresholds) + 1
        same = (first.argmax(axis=0) == second.argmax(axis=0)).astype(np.int64)
        bin_first = np.searchsorted(self.thresholds, first.max(axis=0), side="left")
        bin_second = np.searchsorted(self.thresholds, second.max(axis=0), side="left")
        cells = (same * bins + bin_first) * bins + bin_second
        self.counts += np.bincount(cells.ravel(), minlength=self.counts.size).reshape(
            self.counts.shape
        )

    def merge(self, other: "MethodAgreement") -> None:
        """Add the counts of other images with the same thresholds."""
        if not np.array_equal(self.thresholds, other.thresholds):
            raise ValueError("agreements of different thresholds cannot be merged")
        self.counts += other.counts

    def kappa(self) -> np.ndarray:
        """Return agreement of the masks at each pair of thresholds, float64[T, T].

        Two pixels agree where both are background, or both foreground of the same class; chance
        is that of foreground and background.
        """
        above = self.counts[:, ::-1].cumsum(axis=1)[:, -2::-1]
        both = above[:, :, ::-1].cumsum(axis=2)[:, :, -2::-1]
        total = self.counts.sum()
        first = above.sum(axis=(0, 2))[:, None]
        second = self.counts.sum(axis=(0, 1))[::-1].cumsum()[-2::-1][None, :]
        background = total - first - second + both.sum(axis=0)
        observed = (both[1] + background) / max(total, 1)
        share_first, share_second = first / max(total, 1), second / max(total, 1)
        expected = share_first * share_second + (1 - share_first) * (1 - share_second)
        agreement = np.full(observed.shape, np.nan)
        return np.divide(observed - expected, 1 - expected, out=agreement, where=expected < 1)
