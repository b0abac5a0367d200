"""Dense CRF by pydensecrf2, the library that these workflows use, on its one core."""

from typing import Any

import numpy as np

from workflow_scripts.errors import InputError
from workflow_scripts.settings.refinement import CrfSettings


def _library() -> Any:
    try:
        import pydensecrf.densecrf
        import pydensecrf.utils
    except ImportError as error:
        raise InputError(
            f"the reference of dense_crf_* is missing ({error}): install envs/requirements-dev.txt, as "
            "`make bench` does, or choose other entries by --only"
        ) from None
    return pydensecrf


def unary_from_labels(labels: np.ndarray, number: int, gt_prob: float) -> np.ndarray:
    """Unary of hard labels [H, W]: [number, H · W]."""
    unary: np.ndarray = _library().utils.unary_from_labels(
        labels, number, gt_prob=gt_prob, zero_unsure=False
    )
    return unary


def unary_from_probabilities(probabilities: np.ndarray) -> np.ndarray:
    """Unary of probabilities [L, H, W]: [L, H · W]."""
    unary: np.ndarray = _library().utils.unary_from_softmax(probabilities)
    return unary


def marginals(image: np.ndarray, unary: np.ndarray, settings: CrfSettings) -> np.ndarray:
    """Probabilities [L, H, W] after mean-field inference, from a unary [L, H · W] or [L, H, W]."""
    height, width = image.shape[:2]
    crf = _library().densecrf.DenseCRF2D(width, height, len(unary))
    crf.setUnaryEnergy(np.ascontiguousarray(unary, np.float32).reshape(len(unary), -1))
    crf.addPairwiseGaussian(sxy=settings.gaussian_sxy, compat=settings.gaussian_compat)
    crf.addPairwiseBilateral(
        sxy=settings.bilateral_sxy,
        srgb=settings.bilateral_srgb,
        rgbim=np.ascontiguousarray(image),
        compat=settings.bilateral_compat,
    )
    return np.array(crf.inference(settings.iterations)).reshape(-1, height, width)


def refined(image: np.ndarray, unary: np.ndarray, settings: CrfSettings) -> np.ndarray:
    """Most probable labels [H, W] after mean-field inference."""
    labels: np.ndarray = marginals(image, unary, settings).argmax(axis=0)
    return labels
