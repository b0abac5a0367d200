"""Which images the report shows, by rules that leave no room for picking.

The gain of an image is its mean IoU with one method minus that with another, each at the threshold that
is best for the whole split. Images without a defined IoU (nothing counts in their truth) have no gain.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from workflow_scripts.evaluation.threshold_sweep import ThresholdSweep


class Choice(NamedTuple):
    """An image and why it is shown."""

    id: str
    group: str
    """ "best", "median" or "worst" gain, or "evenly spaced"."""
    gain: float | None
    """Points of IoU; None without ground truth."""


def image_iou(sweep: ThresholdSweep) -> dict[str, float]:
    """Return each image's mean IoU in percent at the split's best threshold; undefined ones absent."""
    images = sweep.images()
    at_best = 100 * images.iou[:, sweep.curve().best].astype(np.float64)
    return {i: float(v) for i, v in zip(images.ids, at_best, strict=True) if not np.isnan(v)}


def gains(first: ThresholdSweep, second: ThresholdSweep) -> dict[str, float]:
    """Return the gain of the second over the first method for every image, in points."""
    before, after = image_iou(first), image_iou(second)
    return {i: after[i] - before[i] for i in before if i in after}


def ranked(gain: dict[str, float]) -> list[str]:
    """Return the ids by falling gain; equal ones by id."""
    return sorted(gain, key=lambda image_id: (-gain[image_id], image_id))


def best_median_worst(gain: dict[str, float], number: int) -> list[Choice]:
    """Choose about a third each from the top, the middle and the bottom of the ranking by gain.

    Where the number cannot be divided, the best get one more, then the worst. No image comes twice.
    """
    ids = ranked(gain)
    number = min(number, len(ids))
    best, worst = -(-number // 3), (number + 1) // 3
    median = number - best - worst
    start = min(max((len(ids) - median) // 2, best), len(ids) - worst - median)
    parts = {
        "best": ids[:best],
        "median": ids[start : start + median],
        "worst": ids[len(ids) - worst :],
    }
    return [Choice(i, group, gain[i]) for group, chosen in parts.items() for i in chosen]


def evenly_spaced(ids: Sequence[str], number: int) -> list[str]:
    """Choose ids at equal distances, the first and the last one among them."""
    number = min(number, len(ids))
    positions = np.linspace(0, len(ids) - 1, number).round().astype(int)
    return [ids[position] for position in positions]
