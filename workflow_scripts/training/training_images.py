"""Images with their labels, and masks where a stage has some, as a training loop reads them."""

from collections.abc import Callable, Sequence

import numpy as np
from torch import Tensor

from workflow_scripts.datasets.images import read_image
from workflow_scripts.datasets.index import ImageRecord
from workflow_scripts.datasets.transforms import augment
from workflow_scripts.errors import InputError
from workflow_scripts.models.views import normalised_crops
from workflow_scripts.settings.training import AugmentationSettings
from workflow_scripts.training.randomness import AUGMENTATION, generator

MaskOf = Callable[[ImageRecord], np.ndarray]


def label_vector(labels: Sequence[int], classes: int) -> np.ndarray:
    """Class numbers (from 1) → float32 0/1 [C]."""
    vector = np.zeros(classes, np.float32)
    vector[np.asarray(labels, int) - 1] = 1
    return vector


class TrainingImages:
    """Augmented images; an element is asked for by (epoch, image number) and depends on these alone.

    Elements are dictionaries: `pixels` [S, S, 3] and `place` (see `transforms.Crop`), `labels` float32 [C]
    and, if masks are given, `mask` uint8 [S, S]. Bytes travel faster than normalised numbers: `normalised`
    makes these where a network computes.
    """

    def __init__(
        self,
        records: Sequence[ImageRecord],
        classes: int,
        augmentation: AugmentationSettings,
        normalisation: tuple[Sequence[float], Sequence[float]],
        seed: int,
        mask_of: MaskOf | None = None,
    ) -> None:
        self.records = records
        self.classes = classes
        self.augmentation = augmentation
        self.normalisation = normalisation
        self.seed = seed
        self.mask_of = mask_of

    def __len__(self) -> int:
        return len(self.records)

    def __getitem__(self, key: tuple[int, int]) -> dict[str, np.ndarray]:
        epoch, number = key
        record = self.records[number]
        image = read_image(record.path)
        mask = self.mask_of(record) if self.mask_of else None
        if mask is not None and mask.shape != image.shape[:2]:
            raise InputError(
                f"image {record.id}: its mask has {mask.shape[1]}×{mask.shape[0]} pixels, the image "
                f"{record.path} has {image.shape[1]}×{image.shape[0]}; make the masks anew"
            )
        rng = generator(self.seed, AUGMENTATION, epoch, number)
        crop = augment(image, mask, self.augmentation, rng)
        element = {"pixels": crop.pixels, "place": crop.place}
        element["labels"] = label_vector(record.labels, self.classes)
        if crop.mask is not None:
            element["mask"] = crop.mask
        return element

    def normalised(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """A batch of elements with `image`, float32 [B, 3, S, S], in place of `pixels` and `place`."""
        rest = {name: part for name, part in batch.items() if name not in ("pixels", "place")}
        image = normalised_crops(batch["pixels"], batch["place"], *self.normalisation)
        return {"image": image, **rest}
