"""Labels of an image by a trained segmentation network, refined by a dense CRF if asked for."""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
import torch.nn.functional as F

from workflow_scripts.datasets.parallel import in_threads
from workflow_scripts.doors.segmenter import described_segmenter
from workflow_scripts.errors import InputError
from workflow_scripts.models.large_images import (
    LARGE,
    UNIT,
    add_resized_part,
    maps_in_tiles,
    tiles,
)
from workflow_scripts.models.multi_scale import add_resized, maps_at_scales
from workflow_scripts.models.trained import described, described_backbone, ready_for_inference
from workflow_scripts.settings.evaluation import EvaluateSegmentationSettings
from workflow_scripts.storage.networks import load_network, read_description
from workflow_scripts.training.inference_pipeline import Kind, in_batches, kind_of
from workflow_scripts.training.precision import autocast

VERSION = 1

Key = TypeVar("Key")


def load_segmentation(
    path: Path, device: torch.device, classes: Sequence[str] | None = None
) -> tuple[Any, dict[str, Any]]:
    """A trained segmentation network in evaluation mode, and its description.

    Args:
        path: model.safetensors.
        device: Where it will compute.
        classes: The classes that it must have; any if None.

    Raises:
        InputError: `path` holds no segmentation network, one of a format that this version does not
            know, or one of another number of classes.
    """
    description = read_description(path, "segmentation")
    version = description.get("version")
    if version != VERSION:
        raise InputError(
            f"{path}: a model of format {version}, this version of the workflow reads format "
            f"{VERSION}; use the version that wrote it, or train the network anew"
        )
    with described(path):
        names = description["classes"]
        backbone = described_backbone(description).build()
        network = described_segmenter(description).build(backbone, len(names))
    if classes is not None and len(classes) != len(names):
        raise InputError(
            f"{path}: was trained on {len(names)} classes, the dataset has {len(classes)}; take the "
            "network and the classes of one run"
        )
    load_network(path, network)
    return ready_for_inference(network, device), description


def _is_large(image: np.ndarray, settings: EvaluateSegmentationSettings) -> bool:
    """Whether the network sees an image in tiles."""
    return image.shape[0] * image.shape[1] * max(settings.scales) ** 2 > LARGE


def _bytes_of_scores(
    image: np.ndarray, classes: int, settings: EvaluateSegmentationSettings
) -> int:
    """Bytes of what `_scores` gives of an image: labels, or float32 probabilities where a CRF follows."""
    pixels = image.shape[0] * image.shape[1]
    probabilities = settings.refine and pixels <= LARGE
    return pixels * (classes + 1) * np.float32().nbytes if probabilities else pixels


def _scores(
    network: Any,
    images: Sequence[np.ndarray],
    settings: EvaluateSegmentationSettings,
    device: torch.device,
    dtype: torch.dtype,
) -> list[np.ndarray]:
    """What the network says of images uint8 [H, W, 3] of one size; of a large one alone.

    Returns:
        Of each its labels uint8 [H, W], where no CRF follows; else probabilities float32 [L, H, W].
    """

    def probabilities(batch: torch.Tensor) -> torch.Tensor:
        return F.softmax(network(batch).float(), dim=1)

    views = len(settings.scales) * (1 + settings.flip)
    height, width = images[0].shape[:2]
    scales, backbone, flip = settings.scales, network.backbone, settings.flip
    with autocast(dtype, device):
        if _is_large(images[0], settings):
            [image] = images
            maps = maps_in_tiles(image, scales, backbone, probabilities, device, flip)
        else:
            maps = maps_at_scales(images, scales, backbone, probabilities, device, flip)
    if height * width > LARGE:
        return [_labels_in_tiles(images[0], [one / views for one in maps], settings)]
    scores = []
    for number in range(len(images)):
        total = add_resized([one[number : number + 1] for one in maps], height, width)
        total = total / views if settings.refine else total.argmax(dim=0).to(torch.uint8)
        scores.append(total.cpu().numpy())
    return scores


def _labels(
    image: np.ndarray, scores: np.ndarray, settings: EvaluateSegmentationSettings
) -> np.ndarray:
    """Labels uint8 [H, W] of `_scores`, those of probabilities by a dense CRF."""
    if scores.ndim == 2:
        return scores
    # Numba, which the CRF needs, is not imported where none is asked for.
    from workflow_scripts.refinement.dense_crf import refine, unary_from_probabilities

    unary = unary_from_probabilities(scores)
    return refine(image, unary, settings.crf).argmax(axis=0).astype(np.uint8)


def _labels_in_tiles(
    image: np.ndarray, maps: Sequence[torch.Tensor], settings: EvaluateSegmentationSettings
) -> np.ndarray:
    """Labels uint8 [H, W] of an image too large for probabilities at its size, from small maps."""
    height, width = image.shape[:2]
    labels = np.empty((height, width), np.uint8)
    for rows in tiles(height, UNIT):
        for columns in tiles(width, UNIT):
            scores = add_resized_part(maps, (height, width), rows.seen, columns.seen)
            if settings.refine:
                part = _labels(image[rows.seen, columns.seen], scores.cpu().numpy(), settings)
            else:
                part = scores.argmax(dim=0).to(torch.uint8).cpu().numpy()
            inner = part[rows.inside, columns.inside]
            labels[rows.core, columns.core] = inner
    return labels


def predict(
    network: Any,
    image: np.ndarray,
    settings: EvaluateSegmentationSettings,
    device: torch.device,
    dtype: torch.dtype = torch.float32,
) -> np.ndarray:
    """Labels of one image: uint8 [H, W, 3] → uint8 [H, W]; `dtype` as `inference_dtype` says."""
    return _labels(image, _scores(network, [image], settings, device, dtype)[0], settings)


def predictions(
    network: Any,
    images: Iterable[tuple[Key, np.ndarray]],
    settings: EvaluateSegmentationSettings,
    device: torch.device,
    dtype: torch.dtype,
    threads: int,
    classes: int,
) -> Iterator[tuple[Key, np.ndarray, np.ndarray]]:
    """Labels of many images, in order; see `training/inference_pipeline.py`.

    Args:
        network: See `load_segmentation`.
        images: Keys, and images uint8 [H, W, 3].
        settings: Scales, and whether a CRF follows.
        device: Where the network is.
        dtype: See `inference_dtype`.
        threads: Of the CRF.
        classes: How many the network tells apart, the background not counted.

    Yields:
        Key, image and labels, see `predict`.
    """
    seen_at_once = max(settings.scales) ** 2 * (1 + settings.flip)

    def kind(one: tuple[Key, np.ndarray]) -> Kind:
        found = kind_of(one[1].shape, seen_at_once, device)
        return Kind(found.key, 1) if _is_large(one[1], settings) else found

    def seen(
        some: list[tuple[Key, np.ndarray]],
    ) -> list[tuple[Key, np.ndarray, np.ndarray]]:
        scores = _scores(network, [image for _, image in some], settings, device, dtype)
        return [(*one, of_one) for one, of_one in zip(some, scores, strict=True)]

    def labelled(
        one: tuple[Key, np.ndarray, np.ndarray],
    ) -> tuple[Key, np.ndarray, np.ndarray]:
        key, image, scores = one
        return key, image, _labels(image, scores, settings)

    def weight(one: tuple[Key, np.ndarray]) -> int:
        return one[1].nbytes + _bytes_of_scores(one[1], classes, settings)

    scored = in_batches(images, seen, kind, weight)
    if not settings.refine:
        return scored
    return in_threads(labelled, scored, threads, lambda one: one[1].nbytes + one[2].nbytes)
