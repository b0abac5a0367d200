"""Ground-truth masks of indexed images: the one place where the workflow reads them."""

import logging
from collections.abc import Sequence

import numpy as np

from workflow_scripts.datasets.index import ImageRecord
from workflow_scripts.datasets.masks import read_mask
from workflow_scripts.errors import InputError

logger = logging.getLogger(__name__)


def with_truth(records: Sequence[ImageRecord]) -> list[ImageRecord]:
    """The images that have a mask; says how many are left out of the evaluation."""
    chosen = [record for record in records if record.mask is not None]
    if len(chosen) < len(records):
        logger.warning(
            "%d of %d images have no mask in the index: they are not evaluated",
            len(records) - len(chosen),
            len(records),
        )
    return chosen


def read_truth(record: ImageRecord) -> np.ndarray:
    """Return the mask of an image, uint8[height, width].

    Raises InputError when the index names none, or it is unreadable or of another size.
    """
    if record.mask is None:
        raise InputError(
            f"image {record.id!r} has no mask in the index: nothing to evaluate against. Fill the"
            " column `mask` for every image of the split, or leave its evaluation out."
        )
    mask = read_mask(record.mask)
    if mask.shape != (record.height, record.width):
        raise InputError(
            f"{record.mask}: the mask has {mask.shape[1]}×{mask.shape[0]} pixels, its image"
            f" {record.width}×{record.height}. Correct the mask or the size in the index."
        )
    return mask
