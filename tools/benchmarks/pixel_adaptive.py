"""Pixel-adaptive refinement beside our dense CRF: the same activations, thresholds and images."""

from functools import partial

import numpy as np
import torch

from tools.benchmarks.comparison import Comparison, timed_pair
from tools.benchmarks.scenes import scenes
from workflow_scripts.refinement.thresholding import refined_labels
from workflow_scripts.settings.refinement import RefinementSettings

THRESHOLDS = (0.30, 0.05)


def measure(rounds: int = 3, *, images: int = 4, height: int = 375, width: int = 500) -> Comparison:
    """Compare on images of two classes (three labels), one core each."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    pairs, equal = [], []
    chosen = [
        (scene.image, scene.activations(), THRESHOLDS) for scene in scenes(images, height, width)
    ]
    works = [
        [partial(refined_labels, *one, RefinementSettings(refinement=name)) for name in ("crf", "par")]
        for one in chosen
    ]  # fmt: skip
    for work in works[0]:
        work()
    for _ in range(rounds):
        for crf, par in works:
            pair, (expected, found) = timed_pair(crf, par)
            pairs.append(pair)
            equal.append(np.mean(np.stack(expected) == np.stack(found)))
    torch.set_num_threads(threads)
    return Comparison(
        pairs,
        "seconds an image",
        float(np.mean(equal)),
        "equal labels",
        f"{width}×{height}, 3 labels, two thresholds; reference: our dense CRF; one core each",
        growth=True,
    )
