"""Ground-truth masks: the one place where the workflow reads them, of indexed images and from folders."""

import logging
import zipfile
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path, PurePosixPath

import numpy as np

from workflow_scripts.datasets.files import MASK_SUFFIXES, Folder
from workflow_scripts.datasets.images import read_mask
from workflow_scripts.datasets.index import ImageRecord
from workflow_scripts.datasets.label_map import masks_in
from workflow_scripts.errors import InputError
from workflow_scripts.storage.masks import MaskReader
from workflow_scripts.storage.shard_files import is_of_an_earlier_cut

logger = logging.getLogger(__name__)

_SHARDS = frozenset({".zip"})

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


def masks_below(folder: Path, classes: Sequence[str] | None = None) -> Masks:
    """Return a function that reads each mask of a folder, by path without suffix.

    Of a run's shards these are those that it is cut into now: those of earlier cuts stay beside them.

    Args:
        folder: The folder, or an export of CVAT.
        classes: See `read_mask`.

    Raises InputError when there is no such folder or no mask in it, or two masks of one name.
    """
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder; give one that holds masks")
    found = Folder.scan(masks_in(folder), MASK_SUFFIXES | _SHARDS)
    masks: Masks = {}
    origin: dict[str, Path] = {}
    earlier = {path for path in found.files.values() if _is_left_over(path)}
    if earlier:
        logger.info("%s: %d shards of an earlier cut of the run are not read", folder, len(earlier))
    for name, path in found.files.items():
        if path in earlier:
            continue
        for key, read in _masks_of(name, path, classes):
            if key in masks:
                raise InputError(
                    f"{folder}: two masks are called {key!r}, in {origin[key]} and in {path}; remove one"
                )
            masks[key], origin[key] = read, path
    if not masks and earlier:
        raise InputError(
            f"{folder}: has no shard that the run is cut into now, only {len(earlier)} of an earlier cut; "
            "run the workflow again, so that they are made"
        )
    if not masks:
        rest = f" Left out: {found.summary()}." if found.left_out else ""
        raise InputError(
            f"{folder}: holds neither masks ({', '.join(sorted(MASK_SUFFIXES))}) nor shards of masks"
            f" (.zip).{rest} Save masks as PNG."
        )
    if found.left_out:
        found.tell()
    return masks


def _is_left_over(path: Path) -> bool:
    return path.suffix.lower() in _SHARDS and is_of_an_earlier_cut(path)


def _masks_of(
    name: str, path: Path, classes: Sequence[str] | None
) -> Iterator[tuple[str, Callable[[], np.ndarray]]]:
    """Yield the name of each mask in a file, and what reads it."""
    if path.suffix.lower() not in _SHARDS:
        yield PurePosixPath(name).with_suffix("").as_posix(), partial(read_mask, path, classes)
        return
    reader = MaskReader(path)
    with zipfile.ZipFile(path) as archive:
        entries = sum(not entry.is_dir() for entry in archive.infolist())
    if entries != len(reader.ids) or not entries:
        raise InputError(
            f"{path}: not a shard of masks of this workflow, but an archive of another kind. Unpack it,"
            " and give the folder."
        )
    for image_id in reader.ids:
        yield image_id, partial(reader.read, image_id)


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
