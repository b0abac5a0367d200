"""What the threshold explorer embeds: pictures, thresholds passed by each pixel, curves.

A browser shows the same masks as the sweep counts: each pixel's activation is stored as the number of
thresholds below it, so that `activation > threshold` is exact at every position of the slider.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from workflow_scripts.datasets.images import read_image
from workflow_scripts.datasets.index import ImageRecord
from workflow_scripts.evaluation.truth import read_truth
from workflow_scripts.report.image_choice import Choice
from workflow_scripts.report.pictures import photo_uri, planes_uri
from workflow_scripts.report.run_tables import Curve

MOST_THRESHOLDS = 255
_PHOTO_SIDE = 640


def slider_positions(thresholds: np.ndarray) -> np.ndarray:
    """Return the positions of the thresholds on the slider: all, or every n-th so that 8 bits do."""
    step = -(-len(thresholds) // MOST_THRESHOLDS)
    return np.arange(step // 2, len(thresholds), step)


def passed_thresholds(
    activation: np.ndarray, labels: Sequence[int], thresholds: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return for each pixel how many thresholds its winner exceeds, and the winner's class.

    Args:
        activation: float32[k, H, W].
        labels: The k channels' classes.
        thresholds: float32[T], ascending, at most 255.

    Returns:
        uint8[H, W] twice: 0…T and class numbers; zeros for an image without labels.
    """
    if not labels:
        return np.zeros(activation.shape[1:], np.uint8), np.zeros(activation.shape[1:], np.uint8)
    passed = np.searchsorted(thresholds, activation.max(axis=0), side="left")
    winner = np.asarray(labels, np.uint8)[activation.argmax(axis=0)]
    return passed.astype(np.uint8), winner


def image_entry(
    record: ImageRecord,
    choice: Choice,
    activations: dict[str, np.ndarray],
    thresholds: np.ndarray,
    with_truth: bool,
) -> dict[str, Any]:
    """Return one image of the explorer.

    The planes are the truth (where there is one), then for each method the passed thresholds and the
    winner.
    """
    planes = [read_truth(record)] if with_truth else []
    for activation in activations.values():
        planes += passed_thresholds(activation, record.labels, thresholds)
    return {
        "id": record.id,
        "width": record.width,
        "height": record.height,
        "labels": record.labels,
        "group": choice.group,
        "gain": None if choice.gain is None else round(choice.gain, 2),
        "photo": photo_uri(read_image(record.path), _PHOTO_SIDE),
        "planes": planes_uri(planes),
    }


def curve_entry(plain: Curve, refined: Curve | None, positions: np.ndarray) -> dict[str, Any]:
    """Return a method's curves for the chart, percent; the best threshold and plateau are exact."""
    threshold, miou = float(plain.thresholds[plain.best]), float(plain.mean[plain.best])
    entry: dict[str, Any] = {
        "mean": _rounded(plain.mean[positions]),
        "spread": _rounded(plain.spread[positions]),
        "best": {"threshold": threshold, "miou": round(miou, 2)},
        "plateau": [[round(end, 6) for end in ends] for ends in plain.plateau_ranges],
        "plateau_share": round(float(plain.plateau.mean()), 4),
    }
    if refined is not None:
        entry["refined"] = {
            "thresholds": refined.thresholds.tolist(),
            "mean": _rounded(refined.mean),
        }
    return entry


def _rounded(values: np.ndarray) -> list[float]:
    return [round(float(value), 3) for value in values]
