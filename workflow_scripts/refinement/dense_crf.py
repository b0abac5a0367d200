"""Dense CRF over an image: label evidence made to agree with positions and colours.

Krähenbühl & Koltun, "Efficient Inference in Fully Connected CRFs with Gaussian Edge Potentials",
NIPS 2011. Potts compatibility, symmetric normalisation of the kernels.
"""

import numpy as np
from numpy.typing import ArrayLike, NDArray

from workflow_scripts.errors import InputError
from workflow_scripts.settings.dense_crf import CrfSettings

SMALLEST_PROBABILITY = 1e-5


def unary_from_labels(
    labels: NDArray[np.integer], n_labels: int, gt_prob: float = 0.7
) -> NDArray[np.float32]:
    """Unary of hard labels that are right with probability `gt_prob`.

    Args:
        labels: int[H, W], values 0…n_labels - 1.
        n_labels: Number of labels L.
        gt_prob: Probability of the given label; the others share the rest evenly.

    Returns:
        float32[L, H, W], negative log probabilities.

    Raises:
        InputError: If a label or `gt_prob` is out of range.
    """
    labels = np.asarray(labels)
    if not 0 < gt_prob < 1:
        raise InputError(f"gt_prob: expected a probability between 0 and 1, got {gt_prob}")
    if n_labels < 1:
        raise InputError(f"n_labels: expected at least 1, got {n_labels}")
    if labels.size and not (labels.min() >= 0 and labels.max() < n_labels):
        raise InputError(
            f"labels: expected values 0…{n_labels - 1}, got {labels.min()}…{labels.max()}"
        )
    rest = -np.log((1 - gt_prob) / (n_labels - 1)) if n_labels > 1 else 0.0
    unary = np.full((n_labels, *labels.shape), rest, np.float32)
    np.put_along_axis(unary, labels[None].astype(np.int64), np.float32(-np.log(gt_prob)), axis=0)
    return unary


def unary_from_probabilities(probabilities: NDArray[np.floating]) -> NDArray[np.float32]:
    """Unary of class probabilities: −log p, with p at least 1e-5.

    Args:
        probabilities: float[L, H, W], adding up to 1 over L.

    Returns:
        float32[L, H, W].
    """
    return -np.log(np.clip(probabilities, SMALLEST_PROBABILITY, 1.0)).astype(np.float32)


def refine(
    image: NDArray[np.uint8], unary: ArrayLike, settings: CrfSettings, device: str = "cpu"
) -> NDArray[np.float32]:
    """Marginals of a dense CRF over one image; P problems share the image's kernels.

    Thread-safe: one call works on one thread and releases the interpreter lock.

    Args:
        image: uint8[H, W, 3].
        unary: float[L, H, W] or float[P, L, H, W], negative log probabilities.
        settings: Kernels, iterations and backend.
        device: Where the torch backend computes; `auto` takes that backend on a GPU.

    Returns:
        float32, the shape of `unary`; adds up to 1 over L.

    Raises:
        InputError: If shapes disagree or the unary holds NaN or infinity.
    """
    image = np.asarray(image)
    unary = np.asarray(unary, np.float32)
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8 or not image.size:
        raise InputError(f"image: expected uint8[H, W, 3], got {image.dtype}{list(image.shape)}")
    if unary.ndim not in (3, 4) or unary.shape[-2:] != image.shape[:2] or not unary.size:
        raise InputError(
            "unary: expected [L, H, W] or [P, L, H, W] with the height and width of the image "
            f"{list(image.shape)}, got {list(unary.shape)}"
        )
    if not np.isfinite(unary).all():
        raise InputError("unary: holds NaN or infinity; clip probabilities before the logarithm")
    problems = unary.reshape(-1, *unary.shape[-3:])
    on_gpu = settings.backend == "auto" and not device.startswith("cpu")
    if settings.backend == "torch" or on_gpu:
        from workflow_scripts.refinement.dense_crf_torch import refine as refine_torch

        return refine_torch(image, problems, settings, device).reshape(unary.shape)
    return _refine_numba(image, problems, settings).reshape(unary.shape)


def _refine_numba(
    image: NDArray[np.uint8], unary: NDArray[np.float32], settings: CrfSettings
) -> NDArray[np.float32]:
    from workflow_scripts.refinement.image_kernels import image_kernels
    from workflow_scripts.refinement.mean_field import infer

    order, kernels = image_kernels(image, settings)
    return infer(unary.reshape(*unary.shape[:2], -1), order, kernels, settings.iterations)
