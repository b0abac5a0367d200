"""Dense CRF on the probabilities of 21 labels, with DeepLab's parameters."""

from functools import partial

import numpy as np
from scipy.special import softmax

from tools.benchmarks.comparison import Comparison, timed_pair
from tools.benchmarks.pydensecrf_reference import refined, unary_from_probabilities
from tools.benchmarks.scenes import Scene, scenes
from workflow_scripts.refinement import dense_crf
from workflow_scripts.settings.evaluation import EvaluateSegmentationSettings
from workflow_scripts.storage.activation_maps import add_scales

LABELS = 21
SETTINGS = EvaluateSegmentationSettings().crf


def _probabilities(scene: Scene, labels: int) -> np.ndarray:
    """Probabilities [L, H, W] as a segmentation network might give them: unsure at the borders."""
    coarse = scene.coarse_activations(seed=1)
    maps = 0.3 * np.random.default_rng(1).random((labels, *coarse.shape[1:]), np.float32)
    maps[0] = 0.5
    maps[list(scene.labels)] += coarse
    return softmax(8 * add_scales((maps / maps.max(),), scene.height, scene.width), axis=0)


def _reference(image: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
    return refined(image, unary_from_probabilities(probabilities), SETTINGS)


def _ours(image: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
    unary = dense_crf.unary_from_probabilities(probabilities)
    return dense_crf.refine(image, unary, SETTINGS).argmax(axis=0)


def measure(
    rounds: int = 3, *, images: int = 2, height: int = 375, width: int = 500, labels: int = LABELS
) -> Comparison:
    """Compare on images of so many labels, one core each."""
    pairs, equal = [], []
    chosen = [(s.image, _probabilities(s, labels)) for s in scenes(images, height, width)]
    _ours(*chosen[0])
    for _ in range(rounds):
        for work in chosen:
            pair, (expected, found) = timed_pair(partial(_reference, *work), partial(_ours, *work))
            pairs.append(pair)
            equal.append(np.mean(expected == found))
    return Comparison(
        pairs,
        "seconds an image",
        float(np.mean(equal)),
        "equal labels",
        f"{width}×{height}, {labels} labels; reference: pydensecrf2; one core each",
    )
