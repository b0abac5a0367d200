"""Evaluation of activations at one threshold in numpy, as these workflows do it."""

from collections.abc import Sequence

import numpy as np

from workflow_scripts.storage.masks import IGNORE


def confusion_at(
    threshold: np.float32,
    maps: np.ndarray,
    labels: Sequence[int],
    truth: np.ndarray,
    classes: int,
) -> np.ndarray:
    """Pixel counts int64[C+1, C+1] of one image by true class and predicted class.

    Args:
        threshold: A pixel is background unless its largest activation exceeds it.
        maps: Activations float32[k, H, W].
        labels: The k channels' classes.
        truth: uint8[H, W] in 0…C; 255 does not count.
        classes: C.
    """
    size = classes + 1
    with_background = np.pad(maps, ((1, 0), (0, 0), (0, 0)), constant_values=threshold)
    prediction = np.array((0, *labels))[with_background.argmax(axis=0)]
    valid = truth != IGNORE
    pairs = size * truth[valid].astype(np.int64) + prediction[valid]
    return np.bincount(pairs, minlength=size * size).reshape(size, size)
