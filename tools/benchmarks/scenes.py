"""Scenes of the embedded photographs, and activations as a classifier might give them."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from itertools import count

import numpy as np
import torch
import torch.nn.functional as F
from scipy import ndimage

from workflow_scripts.datasets.kinds.demo import DemoDatasetSettings, compose
from workflow_scripts.storage.activation_maps import CamMaps
from workflow_scripts.storage.masks import IGNORE

STRIDE = 16
SCALES = (1.0, 0.5, 1.5, 2.0)
_SMALLEST_SCENE = 64
_LEAST_SHARE = 0.02


@dataclass(frozen=True, eq=False)
class Scene:
    """A photograph uint8[H, W, 3], its mask uint8[H, W] and the classes in it; also an index's row."""

    id: str
    image: np.ndarray
    mask: np.ndarray
    labels: tuple[int, ...]

    @property
    def height(self) -> int:
        """Number of rows."""
        return self.image.shape[0]

    @property
    def width(self) -> int:
        """Pixels in a row."""
        return self.image.shape[1]

    def coarse_activations(self, seed: int) -> np.ndarray:
        """Maps at stride 16: blurred, noisy objects, float32[k, ceil(H/16), ceil(W/16)] in 0…1."""
        rng = np.random.default_rng([seed, len(self.labels)])
        rows, columns = -(-self.height // STRIDE), -(-self.width // STRIDE)
        padded = np.zeros((rows * STRIDE, columns * STRIDE), np.uint8)
        padded[: self.height, : self.width] = self.mask
        cells = padded.reshape(rows, STRIDE, columns, STRIDE)
        maps = np.empty((len(self.labels), rows, columns), np.float32)
        for channel, label in enumerate(self.labels):
            share = (cells == label).mean(axis=(1, 3))
            blurred = ndimage.gaussian_filter(share + 0.1 * rng.random(share.shape), 0.8)
            maps[channel] = blurred / blurred.max()
        return maps

    def activations(self, seed: int = 0) -> np.ndarray:
        """Maps enlarged to every pixel, float32[k, H, W] in 0…1."""
        return self.cam_maps(seed).activation()

    def cam_maps(self, seed: int = 0) -> CamMaps:
        """Maps of four scales."""
        coarse = torch.from_numpy(self.coarse_activations(seed))[None]
        sizes = [[math.ceil(n * s / STRIDE) for n in (self.height, self.width)] for s in SCALES]
        maps = tuple(F.interpolate(coarse, s, mode="bilinear")[0].numpy() for s in sizes)
        return CamMaps(maps, self.height, self.width)


def _matching(height: int, width: int, classes: int) -> Iterator[Scene]:
    settings = DemoDatasetSettings(image_size=max(height, width, _SMALLEST_SCENE), empty_share=0)
    for number in count():
        image, mask, _ = compose(settings, "val", number)
        image, mask = image[:height, :width], mask[:height, :width]
        pixels = np.bincount(mask.ravel(), minlength=IGNORE + 1)[1:IGNORE]
        labels = tuple((np.flatnonzero(pixels > _LEAST_SHARE * mask.size) + 1).tolist())
        if len(labels) == classes:
            yield Scene(f"scene-{number:04d}", np.ascontiguousarray(image), mask.copy(), labels)


@cache
def scenes(number: int, height: int = 375, width: int = 500, classes: int = 2) -> tuple[Scene, ...]:
    """The first scenes that show so many classes."""
    found = _matching(height, width, classes)
    return tuple(next(found) for _ in range(number))
