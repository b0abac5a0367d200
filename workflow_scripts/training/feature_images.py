"""Stored features of the training images, in the place of the images."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from workflow_scripts.datasets.index import ImageRecord
from workflow_scripts.errors import InputError
from workflow_scripts.storage.feature_shards import FeatureReader, FeatureShape
from workflow_scripts.training.randomness import AUGMENTATION, generator
from workflow_scripts.training.training_images import MaskOf, label_vector


class FeatureImages:
    """As `TrainingImages`; `image` is float16 [C, n, n], and masks have the view's size, n · stride.

    The scale is drawn for each epoch, since all of a batch are of one size, the mirror image for each image.
    """

    def __init__(
        self,
        records: Sequence[ImageRecord],
        classes: int,
        files: Sequence[Path],
        shape: FeatureShape,
        about: Mapping[str, Any],
        stride: int,
        flip: bool,
        seed: int,
        mask_of: MaskOf | None = None,
    ) -> None:
        """Open the shards.

        Args:
            records: The training images.
            classes: C.
            files: Shards that together hold their features.
            shape: What the shards must hold of each.
            about: What they must be of, see `about_features`.
            stride: The backbone's.
            flip: Whether mirror images are drawn.
            seed: Of the draws.
            mask_of: Mask of an image, for stages that learn from masks.

        Raises:
            InputError: A shard holds other features, or an image's are in none.
        """
        self.records, self.classes, self.scales = records, classes, len(shape.cells)
        self.stride, self.flip, self.seed, self.mask_of = stride, flip, seed, mask_of
        self._readers: dict[str, FeatureReader] = {}
        for file in files:
            reader = FeatureReader(file)
            if (reader.shape, reader.about) != (shape, about):
                raise InputError(
                    f"{file}: holds features of {reader.about}, {reader.shape}; expected {about}, {shape}; "
                    "run `cache_features` with these settings"
                )
            self._readers.update(dict.fromkeys(reader.ids, reader))
        lacking = [record.id for record in records if record.id not in self._readers]
        if lacking:
            raise InputError(
                f"--features: {len(lacking)} training image(s) have none in these shards: "
                f"{', '.join(lacking[:5])}; give all shards of the splits"
            )

    def __len__(self) -> int:
        return len(self.records)

    def __getitem__(self, key: tuple[int, int]) -> dict[str, np.ndarray]:
        epoch, number = key
        record = self.records[number]
        # Not the number of an image: their draws are others.
        scale = int(generator(self.seed, AUGMENTATION, epoch, len(self)).integers(self.scales))
        rng = generator(self.seed, AUGMENTATION, epoch, number)
        mirrored = self.flip and bool(rng.random() < 0.5)
        features = self._readers[record.id].read(record.id, scale, mirrored)
        element = {
            # As it is stored: half the bytes to stack and to move.
            "image": features.copy(),
            "labels": label_vector(record.labels, self.classes),
        }
        if self.mask_of is not None:
            side = features.shape[-1] * self.stride
            mask = Image.fromarray(self.mask_of(record)).resize(
                (side, side), Image.Resampling.NEAREST
            )
            element["mask"] = (
                np.asarray(mask)[:, ::-1].copy() if mirrored else np.asarray(mask).copy()
            )
        return element
