"""From a dataset's activations to the threshold that each rule chooses; no ground truth takes part."""

from collections.abc import Container, Iterable, Iterator, Sequence
from itertools import count
from pathlib import Path

import numpy as np

from workflow_scripts.datasets.images import read_image
from workflow_scripts.datasets.index import ImageRecord, Index
from workflow_scripts.errors import InputError
from workflow_scripts.evaluation.activation_statistics import ActivationStatistics
from workflow_scripts.evaluation.colour_separation import ColourSeparation
from workflow_scripts.evaluation.thresholds import (
    colours,
    consensus,
    fisher,
    maximum_entropy,
    otsu,
)
from workflow_scripts.storage.activations import ActivationReader

Activation = tuple[ImageRecord, np.ndarray]


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


def gather(
    activations: Iterable[Activation], classes: int, thresholds: np.ndarray
) -> ActivationStatistics:
    """Count the activations of all images; memory does not grow with their number."""
    statistics = ActivationStatistics(classes, thresholds)
    for record, activation in activations:
        statistics.update(activation, record.labels)
    return statistics


def sample_activations(index: Index, shards: Sequence[Path], sample: int) -> Iterator[Activation]:
    """Read what `read_activations` does for at most `sample` images, evenly spread."""
    images = count_images(shards)
    chosen = np.linspace(0, images - 1, min(sample, images)).round().astype(int).tolist()
    return read_activations(index, shards, frozenset(chosen))


def count_images(shards: Sequence[Path]) -> int:
    """Return the number of images of some shards."""
    images = 0
    for shard in shards:
        with ActivationReader(shard) as reader:
            images += len(reader.ids)
    return images


def gather_colours(activations: Iterable[Activation], thresholds: np.ndarray) -> ColourSeparation:
    """Look at the colours of some images; those without labels are passed over."""
    separation = ColourSeparation(thresholds)
    for record, activation in activations:
        if record.labels:
            separation.update(read_image(record.path), activation)
    return separation


def label_free_candidates(
    statistics: ActivationStatistics, separation: ColourSeparation | None
) -> dict[str, float]:
    """Return the threshold of each rule, and of the three behind `consensus`.

    Without `colours` where there is no separation, or none that could choose.
    """
    found = {
        "consensus": consensus(statistics),
        "otsu": otsu(statistics),
        "entropy": maximum_entropy(statistics),
        "fisher": fisher(statistics),
    }
    best = None if separation is None else colours(separation)
    return found if best is None else {"colours": best, **found}
