"""Labels from activations: a background threshold, and the refinement that sharpens them."""

from collections.abc import Sequence

import numpy as np

from workflow_scripts.refinement.dense_crf import refine, unary_from_labels
from workflow_scripts.settings.refinement import CrfSettings, RefinementSettings

IGNORE = 255


def local_labels(activations: np.ndarray, threshold: float | np.ndarray) -> np.ndarray:
    """0 for background, i for the i-th channel: the argmax of [threshold, activations].

    Args:
        activations: [k, H, W] in 0…1.
        threshold: A pixel is background unless its largest activation exceeds it; one number, or float [k]
            with that of each channel.

    Returns:
        int32 [H, W] in 0…k.
    """
    if len(activations) == 0:
        return np.zeros(activations.shape[1:], np.int32)
    winner = activations.argmax(axis=0).astype(np.int32)
    least = threshold if np.ndim(threshold) == 0 else np.asarray(threshold, np.float32)[winner]
    return np.where(activations.max(axis=0) > least, winner + 1, 0).astype(np.int32)


def refined_labels(
    image: np.ndarray,
    activations: np.ndarray,
    thresholds: Sequence[float | np.ndarray],
    how: RefinementSettings,
) -> list[np.ndarray]:
    """Labels at several thresholds, each refined; what is known of the image is shared.

    Args:
        image: uint8 [H, W, 3].
        activations: [k, H, W] in 0…1.
        thresholds: Background thresholds, each a number or float [k], see `local_labels`.
        how: Dense CRF, pixel-adaptive refinement, or none.

    Returns:
        For each threshold uint8 [H, W] in 0…k. An image without labels is background.
    """
    labels = [local_labels(activations, threshold) for threshold in thresholds]
    if len(activations) == 0 or how.refinement == "none":
        return [label.astype(np.uint8) for label in labels]
    if how.refinement == "par":
        # Torch, which only this refinement needs, is not imported where none is asked for.
        from workflow_scripts.refinement.pixel_adaptive import refined_by_par

        return list(refined_by_par(image, activations, thresholds, how.par))
    unary = np.stack(
        [unary_from_labels(label, len(activations) + 1, how.gt_prob) for label in labels]
    )
    return list(refine(image, unary, how.crf).argmax(axis=1).astype(np.uint8))


def refined_masks(
    image: np.ndarray, masks: np.ndarray, labels: int, gt_prob: float, crf: CrfSettings
) -> np.ndarray:
    """Masks of one image, each refined by a dense CRF; a pixel of the value `labels` is unknown.

    Args:
        image: uint8 [H, W, 3].
        masks: int [P, H, W] in 0…labels.
        labels: How many labels there are.
        gt_prob: Confidence of a label.
        crf: Kernels and iterations.

    Returns:
        uint8 [P, H, W] in 0…labels − 1.
    """
    if labels == 1:
        return np.zeros(masks.shape, np.uint8)
    unary = np.full((len(masks), labels, *image.shape[:2]), np.log(labels), np.float32)
    for one, mask in zip(unary, masks, strict=True):
        known = mask < labels
        one[:, known] = unary_from_labels(np.where(known, mask, 0), labels, gt_prob)[:, known]
    return refine(image, unary, crf).argmax(axis=1).astype(np.uint8)


def dataset_labels(local: np.ndarray, labels: Sequence[int]) -> np.ndarray:
    """Channel numbers → class numbers: uint8 [H, W]."""
    return np.asarray((0, *labels), np.uint8)[local]


def confident_seed(foreground: np.ndarray, background: np.ndarray) -> np.ndarray:
    """The seed rule: a class where the foreground pass names one, background where both say so.

    Args:
        foreground: Labels at the higher threshold, uint8 [H, W].
        background: Labels at the lower threshold, uint8 [H, W].

    Returns:
        uint8 [H, W]; 255 where the two passes differ on whether there is an object.
    """
    unsure = np.where(background == 0, 0, IGNORE)
    return np.where(foreground == 0, unsure, foreground).astype(np.uint8)


def seed_labels(seed: np.ndarray, labels: Sequence[int]) -> np.ndarray:
    """The same for a seed, whose ignored pixels stay 255: channel numbers → class numbers, uint8 [H, W]."""
    ignored = seed == IGNORE
    numbers = dataset_labels(np.where(ignored, 0, seed), labels)
    return np.where(ignored, IGNORE, numbers).astype(np.uint8)
