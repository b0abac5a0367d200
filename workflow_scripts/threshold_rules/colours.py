"""The threshold whose masks separate the colours of the images best.

It is Otsu's criterion (1979), but in the images instead of in the activations, corrected for chance by mirror
images. Designed for this workflow; figures and limits stand in docs/thresholds.md.
"""

from collections.abc import Iterable, Sequence
from typing import ClassVar

import numpy as np
from PIL import Image

from workflow_scripts.doors.threshold_rule import ThresholdRule
from workflow_scripts.evaluation.activation_statistics import ActivationStatistics, SampledImage
from workflow_scripts.storage.activation_maps import reduce
from workflow_scripts.storage.shard_files import STRIDE

# Standard deviation of the colours (0…1) below which an image has none to separate.
_FLAT = 1e-3
# The explained share of the colours, beyond chance, is 3 to 9 % on scenes of photographs, 7 to 15
# standard errors above 0; where objects are given the colours behind them, below 1 % and 3.
LEAST_SHARE = 0.02
LEAST_ERRORS = 4.0
# Of sums of shares over images.
_ROUNDING = 1e-12


class Colours(ThresholdRule):
    """The best separation of colours; none where objects are in the colours of what is around them."""

    name: ClassVar[str] = "colours"
    reads_images: ClassVar[bool] = True
    finds_none: ClassVar[str] = "no threshold separates the colours of the images"

    def choose(
        self, statistics: ActivationStatistics, sample: Iterable[SampledImage]
    ) -> float | None:
        """See `ThresholdRule`."""
        separation = ColourSeparation(statistics.thresholds)
        for image in sample:
            separation.update(image.pixels, image.activation)
        return best_separation(separation)


class ColourSeparation:
    """Share of the colours' variance that thresholded masks explain, corrected for chance, over images.

    It is the variance between the mean colours of a mask's two sides over that of all pixels: Otsu's
    criterion, but in the image instead of in the activations, so that their scale does not matter. It is
    largest where the mask's border is the object's. But any blob explains something, as neighbouring
    pixels are alike, and one of half the image the most. That share is what the same mask explains of
    the image's three mirror images (left to right, upside down, both): with `a` of the image and `b` of
    the mirror images, (a − b) / (1 − b) is left, as in Cohen's κ. Image and activations are compared at
    stride 4.
    """

    def __init__(self, thresholds: Sequence[float] | np.ndarray) -> None:
        self.thresholds = np.asarray(thresholds, np.float32)
        self.images = 0
        # Sums over the images of b and of a − b at each threshold, and of the products of a − b at each two.
        self._chance, self._excess = np.zeros((2, len(self.thresholds)))
        self._products = np.zeros((len(self.thresholds), len(self.thresholds)))

    def update(self, image: np.ndarray, activation: np.ndarray) -> None:
        """Add an image uint8[H, W, 3] by its activation float32[k, H, W], k ≥ 1."""
        small = np.asarray(Image.fromarray(image).reduce(STRIDE), np.float64) / 255
        colours = small - small.mean(axis=(0, 1))
        total = (colours**2).sum()
        if total < _FLAT**2 * colours[..., 0].size:
            return
        bins = np.searchsorted(self.thresholds, reduce(activation).max(axis=0).ravel(), side="left")
        mirrored = (colours[:, ::-1], colours[::-1], colours[::-1, ::-1])
        chance = np.mean([self._between(bins, other) for other in mirrored], axis=0) / total
        excess = self._between(bins, colours) / total - chance
        self._chance += chance
        self._excess += excess
        self._products += np.outer(excess, excess)
        self.images += 1

    def _between(self, bins: np.ndarray, colours: np.ndarray) -> np.ndarray:
        """Variance between the two sides, times pixels, at each threshold; `colours` have mean 0."""
        length = len(self.thresholds) + 1
        pixels = np.bincount(bins, minlength=length)
        sums = np.stack([np.bincount(bins, c.ravel(), length) for c in np.moveaxis(colours, -1, 0)])
        above, sum_above = (np.cumsum(a[..., ::-1], axis=-1)[..., -2::-1] for a in (pixels, sums))
        # All colours sum to 0: below, the sum is that above with the other sign; of no pixels it is 0.
        weight = 1 / np.maximum(above, 1) + 1 / np.maximum(len(bins) - above, 1)
        return (sum_above**2).sum(axis=0) * weight

    def curve(self) -> np.ndarray:
        """Return the explained share beyond chance, float64[T]; NaN without images."""
        if not self.images:
            return np.full(len(self.thresholds), np.nan)
        return self._excess / (self.images - self._chance)

    def standard_errors(self) -> np.ndarray:
        """Return how many standard errors the mean of `a − b` lies above 0, float64[T]."""
        if self.images < 2:
            return np.zeros(len(self.thresholds))
        mean = self._excess / self.images
        error = _standard_error(mean, np.diagonal(self._products), self.images)
        return np.divide(mean, error, out=np.zeros_like(mean), where=error > 0)

    def as_good_as_the_best(self) -> np.ndarray:
        """Return at which thresholds the separation is within a standard error of the best, bool[T].

        The error is that of the mean difference of `a − b` between the two thresholds, image by image;
        what they have in common does not count. All thresholds of one image, or none, are as good.
        """
        if self.images < 2:
            return np.ones(len(self.thresholds), bool)
        best = int(self.curve().argmax())
        products = np.diagonal(self._products)
        squares = products[best] - 2 * self._products[best] + products
        behind = (self._excess[best] - self._excess) / self.images
        return behind <= _standard_error(behind, squares, self.images) + _ROUNDING


def _standard_error(mean: np.ndarray, squares: np.ndarray, images: int) -> np.ndarray:
    """Standard error of means over images, from these and the sums of the squares."""
    return np.sqrt(np.maximum(squares / images - mean**2, 0) / (images - 1))


def best_separation(separation: ColourSeparation) -> float | None:
    """Return the threshold whose masks separate the images' colours best; None where none does.

    Masks of objects in the colours of their background explain as much as their mirror images do,
    and the best threshold is then one by chance.
    """
    share = separation.curve()
    if np.isnan(share).all():
        return None
    best = int(share.argmax())
    if share[best] < LEAST_SHARE or separation.standard_errors()[best] < LEAST_ERRORS:
        return None
    return float(separation.thresholds[best])
