"""Seeds of an image: two thresholds, each followed by a dense CRF with IRN's parameters."""

from functools import partial

import numpy as np

from tools.benchmarks.comparison import Comparison, timed_pair
from tools.benchmarks.pydensecrf_reference import refined, unary_from_labels
from tools.benchmarks.scenes import scenes
from workflow_scripts.refinement.thresholding import local_labels, refined_labels
from workflow_scripts.settings.refinement import SeedSettings

SETTINGS = SeedSettings()
THRESHOLDS = (0.30, 0.05)


def _reference(image: np.ndarray, activations: np.ndarray) -> list[np.ndarray]:
    """One CRF for each threshold, as IRN does it."""
    results = []
    for threshold in THRESHOLDS:
        labels = local_labels(activations, threshold)
        unary = unary_from_labels(labels, len(activations) + 1, SETTINGS.gt_prob)
        results.append(refined(image, unary, SETTINGS.crf))
    return results


def _ours(image: np.ndarray, activations: np.ndarray) -> list[np.ndarray]:
    """Both thresholds on one lattice."""
    return refined_labels(image, activations, THRESHOLDS, SETTINGS)


def measure(rounds: int = 3, *, images: int = 4, height: int = 375, width: int = 500) -> Comparison:
    """Compare on images of two classes (three labels), one core each."""
    pairs, equal = [], []
    chosen = [(scene.image, scene.activations()) for scene in scenes(images, height, width)]
    _ours(*chosen[0])
    for _ in range(rounds):
        for work in chosen:
            pair, (expected, found) = timed_pair(partial(_reference, *work), partial(_ours, *work))
            pairs.append(pair)
            equal.append(np.mean(np.stack(expected) == np.stack(found)))
    return Comparison(
        pairs,
        "seconds an image",
        float(np.mean(equal)),
        "equal labels",
        f"{width}×{height}, 3 labels, two thresholds; reference: pydensecrf2, two runs; one core each",
    )
