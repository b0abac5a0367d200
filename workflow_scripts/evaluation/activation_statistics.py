"""What activations tell about thresholds without any mask: label-only statistics, streamed.

Everything is counted in integers, so that shards merge exactly and in any order, and nothing grows
with the number of images.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Self

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from workflow_scripts.errors import InputError
from workflow_scripts.evaluation.sweep_kernel import first_bins, histogram_of_image
from workflow_scripts.storage.atomic import atomic_path
from workflow_scripts.storage.masks import IGNORE

_UNIT = 1 << 20


class ActivationStatistics:
    """Histogram of the winner's activation by winner class, over images that have labels.

    `counts` int64[C+1, T+1] are pixels by winner class (0: no label) and bin, bins bordered by the
    T thresholds. `image_shares` int64[T+1] sums over images, in units of 2⁻²⁰, the share of
    the image's pixels in each bin, so that large images weigh no more than small ones.
    """

    def __init__(self, classes: int, thresholds: np.ndarray) -> None:
        self.thresholds = np.asarray(thresholds, np.float32)
        self.counts = np.zeros((classes + 1, len(self.thresholds) + 1), np.int64)
        self.image_shares = np.zeros(len(self.thresholds) + 1, np.int64)
        self.images = 0
        self._starts = first_bins(self.thresholds)

    @property
    def classes(self) -> int:
        """Number of classes, background not counted."""
        return len(self.counts) - 1

    def update(self, activation: np.ndarray, labels: Sequence[int]) -> None:
        """Add an image by its activation float32[k, H, W]."""
        height, width = activation.shape[1:]
        if not labels:
            self.counts[0, 0] += height * width
            return
        channels, _, _, _ = histogram_of_image(
            activation,
            np.zeros((height, width), np.uint8),
            np.full(IGNORE + 1, -1),
            0,
            self.thresholds,
            self._starts,
        )
        self.counts[list(labels)] += channels[0]
        shares = channels[0].sum(axis=0) / (height * width)
        self.image_shares += np.rint(shares * _UNIT).astype(np.int64)
        self.images += 1

    def merge(self, other: "ActivationStatistics") -> None:
        """Add the statistics of other images with the same classes and thresholds."""
        if self.classes != other.classes or not np.array_equal(self.thresholds, other.thresholds):
            raise ValueError("statistics of different classes or thresholds cannot be merged")
        self.counts += other.counts
        self.image_shares += other.image_shares
        self.images += other.images

    def write(self, path: Path) -> None:
        """Write to a safetensors file, whole or not at all."""
        tensors: dict[str, np.ndarray] = {
            "thresholds": self.thresholds,
            "counts": self.counts,
            "image_shares": self.image_shares,
        }
        with atomic_path(path) as temporary:
            save_file(tensors, temporary, metadata={"images": json.dumps(self.images)})

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read what `write` wrote; raises InputError when the file is missing or anything else."""
        try:
            with safe_open(str(path), framework="numpy") as file:
                statistics = cls(len(file.get_tensor("counts")) - 1, file.get_tensor("thresholds"))
                statistics.counts += file.get_tensor("counts")
                statistics.image_shares += file.get_tensor("image_shares")
                statistics.images = json.loads(file.metadata()["images"])
                return statistics
        except (OSError, SafetensorError, KeyError, TypeError, ValueError) as error:
            raise InputError(
                f"{path}: not a complete file of activation statistics ({error}). Delete it, so"
                " that the stage that writes it runs again."
            ) from error
