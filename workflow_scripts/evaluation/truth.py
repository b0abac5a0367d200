"""Ground-truth masks: the one place where the workflow reads them, of indexed images and from folders."""

import logging
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import numpy as np

from workflow_scripts.datasets.index import ImageRecord
from workflow_scripts.datasets.masks import read_mask
from workflow_scripts.errors import InputError
from workflow_scripts.storage.masks import MaskReader

logger = logging.getLogger(__name__)

Masks = dict[str, Callable[[], np.ndarray]]


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


def masks_below(folder: Path) -> Masks:
    """Return a function that reads each mask of a folder, by path without suffix.

    Raises InputError when there is no such folder or no mask in it.
    """
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder")
    masks: Masks = {}
    for path in sorted(folder.rglob("*.png")):
        name = path.relative_to(folder).with_suffix("").as_posix()
        masks[name] = partial(read_mask, path)
    for shard in sorted(folder.rglob("*.zip")):
        reader = MaskReader(shard)
        for image_id in reader.ids:
            masks[image_id] = partial(reader.read, image_id)
    if not masks:
        raise InputError(f"{folder}: holds neither masks (*.png) nor shards of masks (*.zip)")
    return masks


def pair(predictions: Masks, truths: Masks, pred_folder: Path, truth_folder: Path) -> list[str]:
    """Return the names of all true masks; InputError when one has no prediction."""
    missing = [name for name in truths if name not in predictions]
    if missing:
        raise InputError(
            f"{pred_folder}: no prediction for {len(missing)} of {len(truths)} masks of"
            f" {truth_folder}, for instance {missing[0]!r}. Predictions carry the names of the true"
            " masks; predict the missing images or take their masks out."
        )
    extra = len(predictions) - len(truths)
    if extra:
        logger.warning("%s: %d predictions have no true mask and do not count", pred_folder, extra)
    return list(truths)
