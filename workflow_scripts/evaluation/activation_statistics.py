"""What activations tell about thresholds without any mask, and the threshold that each rule makes of it.

No ground truth takes part, and nothing grows with the number of images.
"""

from collections.abc import Container, Iterable, Iterator, Sequence
from itertools import count
from pathlib import Path
from typing import NamedTuple

import numpy as np

from workflow_scripts.console.progress import progress
from workflow_scripts.datasets.images import read_image
from workflow_scripts.datasets.index import ImageRecord, Index
from workflow_scripts.doors.threshold_rule import THRESHOLD_RULES, ThresholdSettings
from workflow_scripts.errors import InputError
from workflow_scripts.evaluation.sweep_kernel import first_bins, histogram_of_image
from workflow_scripts.evaluation.threshold_sweep import even_thresholds
from workflow_scripts.storage.activations import ActivationReader
from workflow_scripts.storage.masks import IGNORE

Activation = tuple[ImageRecord, np.ndarray]


class SampledImage(NamedTuple):
    """An image with what a network sees in it.

    Attributes:
        pixels: uint8 [H, W, 3].
        labels: Its class numbers, ascending, from 1; at least one.
        activation: float32 [k, H, W] in 0…1, one channel a label.
    """

    pixels: np.ndarray
    labels: tuple[int, ...]
    activation: np.ndarray


class ActivationStatistics:
    """Histogram of the winner's activation by winner class, over images that have labels.

    `counts` int64[C+1, T+1] are pixels by winner class (0: no label) and bin, bins bordered by the
    T thresholds; `images` int64[C+1] the images that show each class (0: none).
    """

    def __init__(self, classes: int, thresholds: np.ndarray) -> None:
        self.thresholds = np.asarray(thresholds, np.float32)
        self.counts = np.zeros((classes + 1, len(self.thresholds) + 1), np.int64)
        self.images = np.zeros(classes + 1, np.int64)
        self._starts = first_bins(self.thresholds)

    def update(self, activation: np.ndarray, labels: Sequence[int]) -> None:
        """Add an image by its activation float32[k, H, W]."""
        height, width = activation.shape[1:]
        self.images[list(labels) or [0]] += 1
        if not labels:
            self.counts[0, 0] += height * width
            return
        self.counts[list(labels)] += self.of_image(activation)

    def of_image(self, activation: np.ndarray) -> np.ndarray:
        """Return the pixels of an image by winner's channel and bin, int64[k, T+1]."""
        height, width = activation.shape[1:]
        channels, _, _, _ = histogram_of_image(
            activation,
            np.zeros((height, width), np.uint8),
            np.full(IGNORE + 1, -1),
            0,
            self.thresholds,
            self._starts,
        )
        return channels[0]

    @classmethod
    def of(
        cls, activations: Iterable[Activation], classes: int, thresholds: np.ndarray
    ) -> "ActivationStatistics":
        """Count the activations of some images."""
        statistics = cls(classes, thresholds)
        for record, activation in activations:
            statistics.update(activation, record.labels)
        return statistics


def read_activations(
    index: Index, shards: Sequence[Path], chosen: Container[int] | None = None
) -> Iterator[Activation]:
    """Yield each image of some shards with its activation float32[k, H, W].

    Args:
        index: Of the dataset.
        shards: Files of activations.
        chosen: Positions, over all shards, of the images to read; all if None.

    Raises InputError when a shard is damaged or holds an image that the index does not.
    """
    records = {record.id: record for record in index.records}
    position = count()
    for shard in shards:
        with ActivationReader(shard) as reader:
            for image_id in reader.ids:
                if chosen is not None and next(position) not in chosen:
                    continue
                if image_id not in records:
                    raise InputError(
                        f"{shard}: image {image_id!r} is not in {index.path}. The index has changed"
                        " since the file was written: delete it, so that it is made again."
                    )
                record = records[image_id]
                yield record, reader.read_full(image_id, record.height, record.width)


def sample_images(index: Index, shards: Sequence[Path], sample: int) -> Iterator[SampledImage]:
    """Yield at most `sample` images, evenly spread over the shards; those without labels are left out."""
    images = count_images(shards)
    chosen = np.linspace(0, images - 1, min(sample, images)).round().astype(int).tolist()
    for record, activation in read_activations(index, shards, frozenset(chosen)):
        if record.labels:
            yield SampledImage(read_image(record.path), tuple(record.labels), activation)


def count_images(shards: Sequence[Path]) -> int:
    """Return the number of images of some shards."""
    images = 0
    for shard in shards:
        with ActivationReader(shard) as reader:
            images += len(reader.ids)
    return images


def statistics_of(
    index: Index, shards: Sequence[Path], settings: ThresholdSettings
) -> ActivationStatistics:
    """Count the activations of some shards."""
    activations = progress(read_activations(index, shards), description="count activations")
    return ActivationStatistics.of(activations, len(index.classes), even_thresholds(settings.step))


def refinements_of(
    name: str,
    threshold: float,
    statistics: ActivationStatistics,
    index: Index,
    shards: Sequence[Path],
) -> tuple[dict[str, float], dict[str, float]]:
    """Ask a rule for thresholds of classes, by name, and of images, by id.

    Raises:
        InputError: It gives what is no threshold, or no class.
    """
    rule = THRESHOLD_RULES.get(name)()
    classes = {}
    for number, found in rule.of_classes(statistics, threshold).items():
        if not 1 <= number <= len(index.classes):
            raise InputError(
                f"threshold rule `{name}`: chose a threshold for class {number}; classes are 1 to "
                f"{len(index.classes)}. Correct the rule"
            )
        classes[index.classes[number - 1]] = _checked(name, found)
    images = {}
    if rule.by_image:
        described = progress(read_activations(index, shards), description="thresholds of images")
        for record, activation in described:
            if record.labels:
                counts = statistics.of_image(activation).sum(axis=0)
                own = rule.of_image(counts, statistics, threshold)
                if own is not None:
                    images[record.id] = _checked(name, own)
    return classes, images


def _checked(name: str, threshold: float) -> float:
    if not 0 < threshold < 1:
        raise InputError(
            f"threshold rule `{name}`: chose {threshold}, expected a number between 0 and 1 or None; "
            "correct the rule, or ask for another by `choose_thresholds: {rule: …}`"
        )
    return float(threshold)


def candidates_of(
    rules: Iterable[str],
    statistics: ActivationStatistics,
    index: Index,
    shards: Sequence[Path],
    settings: ThresholdSettings,
) -> dict[str, float]:
    """Ask some rules for a threshold.

    Args:
        rules: Their names.
        statistics: Of the activations of the training images.
        index: Of the dataset.
        shards: Files of activations of the training images.
        settings: Distance of the thresholds, and how many images a rule may see.

    Returns:
        Threshold by rule; rules that find none are absent.

    Raises:
        InputError: A shard cannot be used, there is nothing to go by, or a rule gives what is no threshold.
    """
    found = {}
    for name in rules:
        rule = THRESHOLD_RULES.get(name)()
        sample: Iterable[SampledImage] = ()
        if rule.reads_images:
            seen = min(settings.sample, count_images(shards))
            images = sample_images(index, shards, settings.sample)
            sample = progress(images, total=seen, description=f"look at images: {name}")
        threshold = rule.choose(statistics, sample)
        if threshold is None:
            continue
        found[name] = _checked(name, threshold)
    return found
