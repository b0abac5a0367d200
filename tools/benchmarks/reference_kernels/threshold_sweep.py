"""The threshold sweep as it is usually counted: one evaluation a threshold."""

import numpy as np

from tools.benchmarks.numpy_reference import confusion_at
from workflow_scripts.storage.masks import IGNORE

BELOW_ALL = np.float32(-1)


def histogram_of_image(
    activation: np.ndarray,
    truth: np.ndarray,
    channel_of_class: np.ndarray,
    classes: int,
    thresholds: np.ndarray,
    starts: np.ndarray,
) -> tuple[np.ndarray, np.ndarray, np.ndarray, int]:
    """What `evaluation.sweep_kernel.histogram_of_image` gives.

    Each threshold has its confusion matrix. Differences of two are the pixels between the thresholds.
    """
    inside, outside = np.zeros((len(activation), 3)), np.zeros(2)
    strange = truth[(truth > classes) & (truth != IGNORE)]
    if strange.size:
        nothing = np.zeros((classes + 1, len(activation), len(thresholds) + 1), np.int64)
        return nothing, inside, outside, int(strange[-1])
    labels = [
        int(np.flatnonzero(channel_of_class == channel)[0]) for channel in range(len(activation))
    ]
    passes = [
        confusion_at(threshold, activation, labels, truth, classes)[:, labels]
        for threshold in (BELOW_ALL, *thresholds)
    ]
    passes.append(np.zeros_like(passes[0]))
    counts = -np.diff(np.stack(passes, axis=-1), axis=-1)
    for channel, label in enumerate(labels):
        values = activation[channel][truth == label].astype(np.float64)
        inside[channel] = values.size, values.sum(), (values**2).sum()
    background = activation.max(axis=0)[truth == 0].astype(np.float64)
    outside[:] = background.size, background.sum()
    return counts, inside, outside, -1
