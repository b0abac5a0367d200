"""What can be said of a mask without a true one: evidence on each of its regions, from image and labels.

A region is all pixels of one class of an image, background too. All evidence is taken on a reduced image, so
that it costs little, and is a number without unit that does not depend on the image's size.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image

from workflow_scripts.refinement.thresholding import refined_masks
from workflow_scripts.settings.refinement import CrfSettings
from workflow_scripts.storage.masks import IGNORE

# Longest side of the reduced image, pixels. The kernels are those of the published recipe (positions 3 and
# 50 pixels of a photograph of 500) at that size.
SIDE = 160
GT_PROB = 0.7
CRF = CrfSettings(gaussian_sxy=1, bilateral_sxy=16)
# Half the width of the window in which the majority smooths a region.
SMOOTH = 2
# Width of the rims on both sides of a border, and how colours are counted.
RIM = 3
LEVEL = 43
LEVELS = 6
_FLAT = 1e-3

KINDS = ("colours", "edges", "refined", "smooth", "extent", "touching", "rim", "beyond")


@dataclass(frozen=True, slots=True)
class RegionEvidence:
    """Evidence on one region.

    Attributes:
        number: Class of the region, 0 for background.
        share: Its share of the image's pixels.
        expected: Whether the image's labels name it; background is always expected.
        values: Evidence in the order of `KINDS`: `colours`, share of the colours' variance that lies
            between region and rest, beyond what the same region explains of the mirror images; `edges`, mean
            rank (0…1) of the colour gradient along its border; `refined`, IoU with itself after a dense CRF;
            `smooth`, IoU with itself after a majority filter; `extent`, square root of its share;
            `touching`, its share of the image's border; `rim` and `beyond`, the share of the pixels just
            inside and just outside of its border whose colours are more frequent inside than outside.
        agreement: Mean IoU with the other sets' region of the class; NaN without other sets. It tells where
            sets differ, and takes no part in a prediction: what it is worth depends on which the others are.
    """

    number: int
    share: float
    expected: bool
    values: np.ndarray
    agreement: float


def reduced(image: np.ndarray, masks: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Return an image uint8 [H, W, 3] and its masks uint8 [H, W] at most SIDE pixels long.

    Colours are averaged, of the labels every f-th is taken.
    """
    height, width = image.shape[:2]
    factor = -(-max(height, width) // SIDE)
    small = np.asarray(Image.fromarray(image).reduce(factor))
    rows, columns = (
        np.minimum(np.arange(length) * factor + factor // 2, full - 1)
        for length, full in zip(small.shape[:2], (height, width), strict=True)
    )
    return small, np.stack([mask[rows[:, None], columns] for mask in masks])


def evidence(
    image: np.ndarray, masks: Sequence[np.ndarray], labels: Sequence[int]
) -> list[list[RegionEvidence]]:
    """Return the evidence on each region of some sets' masks of one image.

    A class that the labels name and a mask lacks is a region without pixels, whose values are NaN.

    Args:
        image: uint8 [H, W, 3].
        masks: One mask of each set, uint8 [H, W] of class numbers, 255 ignored.
        labels: The image's class numbers.

    Returns:
        For each set the regions, by number.
    """
    small, own = reduced(image, masks)
    numbers = sorted({0, *labels, *np.unique(own).tolist()} - {IGNORE})
    place = np.zeros(256, np.intp)
    place[numbers] = np.arange(len(numbers))
    place[IGNORE] = len(numbers)
    local = place[own]
    refined = refined_masks(small, local, len(numbers), GT_PROB, CRF)
    ranks = _gradient_ranks(small)
    bins = (small // LEVEL).astype(np.intp) @ np.array([LEVELS**2, LEVELS, 1])
    inside = local[:, None] == np.arange(len(numbers))[:, None, None]
    regions_of = inside.reshape(-1, *small.shape[:2])
    colours = colour_separation(small, regions_of).reshape(len(masks), len(numbers))
    agreements = [agreement_of(inside[:, position]) for position in range(len(numbers))]
    found = []
    for which in range(len(masks)):
        regions = []
        for position, number in enumerate(numbers):
            region = inside[which, position]
            expected = number == 0 or number in labels
            agreement = float(agreements[position][which])
            if not region.any():
                if expected:
                    empty = np.full(len(KINDS), np.nan)
                    regions.append(RegionEvidence(number, 0.0, expected, empty, agreement))
                continue
            share = float(region.mean())
            values = (
                colours[which, position],
                _along_border(ranks, region),
                iou(region, refined[which] == position),
                iou(region, smoothed(region)),
                np.sqrt(share),
                _touching(region),
                *_across(bins, region),
            )
            regions.append(RegionEvidence(number, share, expected, np.array(values), agreement))
        found.append(regions)
    return found


def iou(one: np.ndarray, other: np.ndarray) -> float:
    """Intersection over union of two regions bool [H, W]; 1 where both are empty."""
    union = np.count_nonzero(one | other)
    return np.count_nonzero(one & other) / union if union else 1.0


def agreement_of(regions: np.ndarray) -> np.ndarray:
    """Mean IoU of each of S regions bool [S, H, W] with the others, [S]; NaN of a single one."""
    if len(regions) == 1:
        return np.full(1, np.nan)
    flat = regions.reshape(len(regions), -1).astype(np.float32)
    shared = flat @ flat.T
    sizes = np.diagonal(shared)
    unions = sizes[:, None] + sizes - shared
    ious = np.divide(shared, unions, out=np.ones_like(shared), where=unions > 0)
    return (ious.sum(axis=1) - 1) / (len(regions) - 1)


def smoothed(region: np.ndarray) -> np.ndarray:
    """The majority in a window around each pixel of bool [H, W]; outside of the image the border goes on."""
    return 2 * _around(region, SMOOTH) > (2 * SMOOTH + 1) ** 2


def _around(region: np.ndarray, steps: int) -> np.ndarray:
    """Pixels of a region in the window of so many steps around each pixel, int32 [H, W]."""
    side = 2 * steps + 1
    sums = np.pad(region, steps, mode="edge").astype(np.int32).cumsum(axis=0).cumsum(axis=1)
    sums = np.pad(sums, ((1, 0), (1, 0)))
    return sums[side:, side:] - sums[:-side, side:] - sums[side:, :-side] + sums[:-side, :-side]


def _across(bins: np.ndarray, region: np.ndarray) -> tuple[float, float]:
    """Share of the pixels on both sides of a region's border that have its colours; 1 and 0 without one.

    Args:
        bins: Number of each pixel's colour, int [H, W] in 0…LEVELS³ − 1.
        region: bool [H, W].
    """
    near = _around(region, RIM)
    within, without = region & (near < (2 * RIM + 1) ** 2), ~region & (near > 0)
    if not within.any() or not without.any():
        return 1.0, 0.0
    counts = [
        np.bincount(bins[side], minlength=LEVELS**3) / side.sum() for side in (region, ~region)
    ]
    like = (counts[0] > counts[1])[bins]
    return float(like[within].mean()), float(like[without].mean())


def colour_separation(image: np.ndarray, regions: np.ndarray) -> np.ndarray:
    """Explained share of the colours' variance beyond that of mirror images, (a − b) / (1 − b), float64 [n].

    a is the share of the variance of the colours between a region and the rest, b its mean over the image's
    three mirror images (left to right, upside down, both). 0 of a flat image, and of all or no pixels.

    Args:
        image: uint8 [H, W, 3].
        regions: bool [n, H, W].
    """
    colours = image.astype(np.float64) / 255
    colours -= colours.mean(axis=(0, 1))
    total = (colours**2).sum()
    views = (colours, colours[:, ::-1], colours[::-1], colours[::-1, ::-1])
    pixels = np.stack([view.reshape(-1, 3) for view in views], axis=1).reshape(-1, 12)
    flat = regions.reshape(len(regions), -1)
    sums = (flat.astype(np.float32) @ pixels.astype(np.float32)).reshape(-1, 4, 3)
    inside = np.count_nonzero(flat, axis=1)
    outside = flat.shape[1] - inside
    fits = (inside > 0) & (outside > 0) & (total >= _FLAT**2 * flat.shape[1])
    weights = 1 / np.maximum(inside, 1) + 1 / np.maximum(outside, 1)
    shares = weights[:, None] * (sums.astype(np.float64) ** 2).sum(axis=2) / max(total, _FLAT**2)
    own, chance = shares[:, 0], shares[:, 1:].mean(axis=1)
    return np.where(fits, (own - chance) / np.maximum(1 - chance, _FLAT), 0.0)


def _gradient_ranks(image: np.ndarray) -> np.ndarray:
    """Rank 0…1 of each pixel's colour gradient (largest step to a neighbour) within the image, [H, W]."""
    colours = image.astype(np.float32)
    steps = np.zeros(image.shape[:2], np.float32)
    for axis in (0, 1):
        step = np.sqrt((np.diff(colours, axis=axis) ** 2).sum(axis=-1))
        first, second = (
            (slice(None, -1), slice(1, None)) if axis == 0 else
            ((slice(None), slice(None, -1)), (slice(None), slice(1, None)))
        )  # fmt: skip
        steps[first] = np.maximum(steps[first], step)
        steps[second] = np.maximum(steps[second], step)
    values, inverse, counts = np.unique(steps.ravel(), return_inverse=True, return_counts=True)
    middle = (np.cumsum(counts) - counts / 2) / steps.size
    return middle[inverse].reshape(steps.shape) if len(values) else steps


def _along_border(ranks: np.ndarray, region: np.ndarray) -> float:
    """Mean rank on the pixels on both sides of a region's border; 0.5, which is chance, without one."""
    border = np.zeros_like(region)
    down, right = region[1:] != region[:-1], region[:, 1:] != region[:, :-1]
    border[1:] |= down
    border[:-1] |= down
    border[:, 1:] |= right
    border[:, :-1] |= right
    return float(ranks[border].mean()) if border.any() else 0.5


def _touching(region: np.ndarray) -> float:
    """Share of the image's border pixels in a region."""
    edges = (region[0], region[-1], region[:, 0], region[:, -1])
    return float(np.concatenate(edges).mean())
