"""The hot loop of the threshold sweep: winner and histogram in one pass over pixels."""

from functools import cache
from typing import Any

import numpy as np

from workflow_scripts.storage.masks import IGNORE

_CELLS = 4096


def first_bins(thresholds: np.ndarray) -> np.ndarray:
    """Return for each of 4096 equal cells of 0…1 how many thresholds lie below it, int64[4097].

    Starting there, the bin of a value is found in a comparison or two, whatever the number of
    thresholds, and exactly: the bin of v is the number of thresholds t with v > t.
    """
    return np.searchsorted(thresholds, np.arange(_CELLS + 1) / _CELLS, side="left")


def histogram_of_image(
    activation: np.ndarray,
    truth: np.ndarray,
    channel_of_class: np.ndarray,
    classes: int,
    thresholds: np.ndarray,
    starts: np.ndarray,
) -> tuple[np.ndarray, np.ndarray, np.ndarray, int]:
    """Count the pixels of one image by true class, winner channel and bin.

    Args:
        activation: float32[k, H, W] in 0…1, k ≥ 1.
        truth: uint8[H, W]; 255 does not count.
        channel_of_class: int64[256], the channel of each class, -1 where there is none.
        classes: number of classes C, background not counted.
        thresholds: float32[n], ascending.
        starts: `first_bins(thresholds)`.

    Returns:
        Counts int64[C+1, k, n+1]; sums float64[k, 3] of 1, a, a² over the true pixels of each
        channel's class, a being that channel's activation; sums float64[2] of 1 and the winner's
        value over the true background; a value of `truth` that is no class, or -1.
    """
    if activation.shape[1:] != truth.shape:
        raise ValueError(f"{activation.shape[1:]} activations for {truth.shape} pixels of truth")
    counts = np.zeros((classes + 1, len(activation), len(thresholds) + 1), np.int64)
    inside = np.zeros((len(activation), 3))
    outside = np.zeros(2)
    strange = _compiled_kernel()(
        np.ascontiguousarray(activation),
        np.ascontiguousarray(truth),
        channel_of_class,
        classes,
        thresholds,
        starts,
        counts,
        inside,
        outside,
    )
    return counts, inside, outside, strange


@cache
def _compiled_kernel() -> Any:
    # Numba is imported where pixels are counted, not wherever counts are read.
    from workflow_scripts.storage.compiled import compiled

    return compiled(_accumulate)


def _accumulate(
    activation: np.ndarray,
    truth: np.ndarray,
    channel_of_class: np.ndarray,
    classes: int,
    thresholds: np.ndarray,
    starts: np.ndarray,
    counts: np.ndarray,
    inside: np.ndarray,
    outside: np.ndarray,
) -> int:
    channels, height, width = activation.shape
    number = len(thresholds)
    best = np.empty(width, np.float32)
    winner = np.empty(width, np.int64)
    strange = -1
    for y in range(height):
        for channel in range(channels):
            value = activation[channel, y]
            for x in range(width):
                if channel == 0 or value[x] > best[x]:
                    best[x] = value[x]
                    winner[x] = channel
            for x in range(width):
                if channel_of_class[truth[y, x]] == channel:
                    inside[channel, 0] += 1
                    inside[channel, 1] += value[x]
                    inside[channel, 2] += np.float64(value[x]) * np.float64(value[x])
        for x in range(width):
            label = truth[y, x]
            if label > classes:
                if label != IGNORE:
                    strange = label
                continue
            bin_ = starts[int(best[x] * np.float32(_CELLS))]
            while bin_ < number and best[x] > thresholds[bin_]:
                bin_ += 1
            counts[label, winner[x], bin_] += 1
            if label == 0:
                outside[0] += 1
                outside[1] += best[x]
    return strange
