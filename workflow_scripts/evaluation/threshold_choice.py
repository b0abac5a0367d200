"""From a dataset's activations to the threshold that each rule chooses; no ground truth takes part."""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np

from workflow_scripts.datasets.images import read_image
from workflow_scripts.datasets.index import ImageRecord, Index
from workflow_scripts.errors import InputError
from workflow_scripts.evaluation.activation_statistics import ActivationStatistics
from workflow_scripts.evaluation.agreement import RefinementAgreement
from workflow_scripts.evaluation.thresholds import (
    consensus,
    fisher,
    maximum_entropy,
    most_stable,
    otsu,
    refinement_agreement,
)
from workflow_scripts.refinement.thresholding import local_labels, refined_labels
from workflow_scripts.settings.thresholds import ThresholdSettings
from workflow_scripts.storage.activations import ActivationReader, upsample

# Each costs a dense CRF an image; the best one is placed between them by a parabola.
REFINED_GRID = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)


Activation = tuple[ImageRecord, np.ndarray]


def read_activations(index: Index, shards: Sequence[Path]) -> Iterator[Activation]:
    """Yield each image of some shards with its stored activation float32[k, h, w].

    Raises InputError when a shard is damaged or holds an image that the index does not.
    """
    records = {record.id: record for record in index.records}
    for shard in shards:
        with ActivationReader(shard) as reader:
            for image_id in reader.ids:
                if image_id not in records:
                    raise InputError(
                        f"{shard}: image {image_id!r} is not in {index.path}. The index has changed"
                        " since the file was written: delete it, so that it is made again."
                    )
                yield records[image_id], reader.read_full(image_id)


def gather(
    activations: Iterable[Activation], classes: int, thresholds: np.ndarray
) -> ActivationStatistics:
    """Count the activations of all images; memory does not grow with their number."""
    statistics = ActivationStatistics(classes, thresholds)
    for record, activation in activations:
        statistics.update(activation, record.labels, record.height, record.width)
    return statistics


def sample_activations(index: Index, shards: Sequence[Path], sample: int) -> Iterator[Activation]:
    """Yield what `read_activations` does for at most `sample` images, evenly spread."""
    count = sum(len(_ids(shard)) for shard in shards)
    chosen = set(np.linspace(0, count - 1, min(sample, count)).round().astype(int).tolist())
    for number, image in enumerate(read_activations(index, shards)):
        if number in chosen:
            yield image


def _ids(shard: Path) -> tuple[str, ...]:
    with ActivationReader(shard) as reader:
        return reader.ids


def gather_agreement(
    activations: Iterable[Activation], classes: int, settings: ThresholdSettings
) -> RefinementAgreement:
    """Compare the masks of some images at coarse thresholds with their refinement by a dense CRF."""
    agreement = RefinementAgreement(classes, REFINED_GRID)
    for record, activation in activations:
        if not record.labels:
            continue
        enlarged = upsample(activation, record.height, record.width)
        before = [local_labels(enlarged, threshold) for threshold in REFINED_GRID]
        after = refined_labels(
            read_image(record.path), enlarged, REFINED_GRID, settings.gt_prob, settings.crf
        )
        names = np.asarray((0, *record.labels), np.uint8)
        agreement.update([names[labels] for labels in before], [names[labels] for labels in after])
    return agreement


def label_free_candidates(
    statistics: ActivationStatistics,
    agreement: RefinementAgreement | None,
    settings: ThresholdSettings,
) -> dict[str, float]:
    """Return the threshold of each rule; `refinement` only where its counts are given."""
    found = {
        "consensus": consensus(statistics),
        "otsu": otsu(statistics),
        "entropy": maximum_entropy(statistics),
        "fisher": fisher(statistics),
        "stability": most_stable(statistics, settings.window),
    }
    if agreement is not None:
        found["refinement"] = refinement_agreement(agreement)
    return found
