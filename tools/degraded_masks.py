"""True masks made worse in known ways: they calibrate and test the prediction of quality."""

from collections.abc import Callable

import numpy as np

from workflow_scripts.evaluation.confusion import border
from workflow_scripts.storage.masks import IGNORE


def _steps(mask: np.ndarray, share: float) -> int:
    return max(1, round(share * float(np.hypot(*mask.shape))))


def grown(mask: np.ndarray, share: float) -> np.ndarray:
    """Objects reach into the background by a share of the diagonal."""
    background = mask == 0
    result = mask.copy()
    for label in np.unique(mask[mask > 0]):
        near = border(mask != label, _steps(mask, share)) & background
        result[near & _touched(mask == label, _steps(mask, share))] = label
    return result


def _touched(region: np.ndarray, steps: int) -> np.ndarray:
    """Pixels with a pixel of the region within so many steps; `border` counts the image's edge too."""
    side = 2 * steps + 1
    sums = np.pad(region, steps).astype(np.int64).cumsum(axis=0).cumsum(axis=1)
    sums = np.pad(sums, ((1, 0), (1, 0)))
    return sums[side:, side:] - sums[:-side, side:] - sums[side:, :-side] + sums[:-side, :-side] > 0


def shrunk(mask: np.ndarray, share: float) -> np.ndarray:
    """Objects lose a rim of a share of the diagonal."""
    result = mask.copy()
    for label in np.unique(mask[mask > 0]):
        result[_touched(mask != label, _steps(mask, share)) & (mask == label)] = 0
    return result


def moved(mask: np.ndarray, share: float) -> np.ndarray:
    """The whole mask lies beside its image."""
    steps = _steps(mask, share)
    result = np.zeros_like(mask)
    result[steps:, steps:] = mask[:-steps, :-steps]
    return result


def noisy(mask: np.ndarray, share: float) -> np.ndarray:
    """A share of the pixels takes another pixel's label."""
    random = np.random.default_rng(mask.size)
    other = random.permutation(mask.ravel()).reshape(mask.shape)
    return np.where(random.random(mask.shape) < share, other, mask)


def coarse(mask: np.ndarray, share: float) -> np.ndarray:
    """Blocks as large as a share of the diagonal, each with the label in its middle."""
    side = _steps(mask, share)
    rows, columns = (
        np.minimum(np.arange(length) // side * side + side // 2, length - 1)
        for length in mask.shape
    )
    return mask[rows[:, None], columns]


def blob(mask: np.ndarray, share: float) -> np.ndarray:
    """The most frequent class in a disc in the middle, of a share of the smaller side as its radius."""
    counts = np.bincount(mask.ravel(), minlength=2)
    counts[0] = 0
    y, x = (np.arange(length) - length / 2 + 0.5 for length in mask.shape)
    inside = np.hypot(y[:, None], x) < share * min(mask.shape)
    return np.where(inside, counts.argmax() if counts.any() else 0, 0).astype(np.uint8)


KINDS: dict[str, tuple[Callable[[np.ndarray, float], np.ndarray], float]] = {
    "right": (lambda mask, share: mask, 0.0),
    "grown 1 %": (grown, 0.01),
    "grown 3 %": (grown, 0.03),
    "grown 8 %": (grown, 0.08),
    "shrunk 1 %": (shrunk, 0.01),
    "shrunk 3 %": (shrunk, 0.03),
    "moved 5 %": (moved, 0.05),
    "moved 15 %": (moved, 0.15),
    "noisy 10 %": (noisy, 0.1),
    "noisy 40 %": (noisy, 0.4),
    "coarse 8 %": (coarse, 0.08),
    "blob": (blob, 0.35),
}


def degraded(mask: np.ndarray, kind: str) -> np.ndarray:
    """A true mask uint8 [H, W] made worse; what it ignores is background."""
    change, share = KINDS[kind]
    return change(np.where(mask == IGNORE, 0, mask).astype(np.uint8), share).astype(np.uint8)
