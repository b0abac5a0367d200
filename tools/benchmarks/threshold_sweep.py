"""Confusion matrices at 100 thresholds: one pass over the images against one pass a threshold."""

from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from tools.benchmarks.comparison import Comparison, timed_pair
from tools.benchmarks.numpy_reference import confusion_at
from tools.benchmarks.scenes import SCALES, Scene, scenes
from workflow_scripts.datasets.kinds.demo import class_names
from workflow_scripts.evaluation.threshold_sweep import ThresholdSweep, even_thresholds
from workflow_scripts.storage.activation_maps import CamMaps
from workflow_scripts.storage.activations import ActivationReader, ActivationWriter

STEP = 0.01
DISTINCT_SCENES = 8


def _numbered(distinct: tuple[Scene, ...], images: int) -> list[Scene]:
    """So many images; scenes come again, with other activations."""
    return [
        Scene(f"{number:04d}", scene.image, scene.mask, scene.labels)
        for number, scene in zip(range(images), distinct * images, strict=False)
    ]


def _store(folder: Path, images: list[Scene]) -> Path:
    """Write the activations as a shard, and as full-size float32 maps, one file an image."""
    shard = folder / "shard.safetensors"
    with ActivationWriter(shard, images, CamMaps) as writer:
        for number, image in enumerate(images):
            maps = image.cam_maps(number)
            writer.write(image.id, maps)
            np.save(folder / f"{image.id}.npy", maps.as_stored().activation())
    return shard


def _pass_at(threshold: np.float32, folder: Path, images: list[Scene], classes: int) -> np.ndarray:
    """The confusion matrix at one threshold, as these workflows count it."""
    size = classes + 1
    counts = np.zeros((size, size), np.int64)
    for image in images:
        maps = np.load(folder / f"{image.id}.npy")
        counts += confusion_at(threshold, maps, image.labels, image.mask, classes)
    return counts


def _passes(thresholds: np.ndarray, folder: Path, images: list[Scene], classes: int) -> np.ndarray:
    """The confusion matrices at some thresholds."""
    return np.stack([_pass_at(threshold, folder, images, classes) for threshold in thresholds])


def _sweep(thresholds: np.ndarray, shard: Path, images: list[Scene], classes: int) -> np.ndarray:
    """The confusion matrices at all thresholds."""
    sweep = ThresholdSweep(classes, thresholds)
    with ActivationReader(shard) as reader:
        for image in images:
            activation = reader.read_full(image.id, image.height, image.width)
            sweep.update(image.id, activation, image.labels, image.mask)
    return sweep.confusions()


def measure(
    rounds: int = 3, *, images: int = 200, height: int = 375, width: int = 500, passes: int = 2
) -> Comparison:
    """Compare on stored activations, one core each.

    Of the reference's passes, which all cost the same, a few are timed and taken times 100 / few, other
    thresholds in each round.
    """
    thresholds, classes = even_thresholds(STEP), len(class_names())
    numbered = _numbered(scenes(DISTINCT_SCENES, height, width), images)
    pairs, equal = [], []
    with TemporaryDirectory() as name:
        folder = Path(name)
        shard = _store(folder, numbered)
        _sweep(thresholds, shard, numbered[:1], classes)
        spread = np.random.default_rng(0).permutation(len(thresholds))
        for number in range(rounds):
            taken = spread[number * passes : (number + 1) * passes]
            (reference, ours), (expected, found) = timed_pair(
                partial(_passes, thresholds[taken], folder, numbered, classes),
                partial(_sweep, thresholds, shard, numbered, classes),
            )
            pairs.append((reference * len(thresholds) / passes, ours))
            equal.append(np.array_equal(expected, found[taken]))
    return Comparison(
        pairs,
        f"seconds for {images} images",
        float(np.mean(equal)),
        "equal confusion matrices",
        f"{width}×{height}, {len(SCALES)} scales, {len(thresholds)} thresholds; reference: one numpy pass a"
        f" threshold over stored full-size maps, {passes} passes timed and taken times "
        f"{len(thresholds) // passes}; "
        "one core each",
    )
