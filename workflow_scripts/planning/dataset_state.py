"""What a dataset that is already here consists of, so that a change of it is noticed.

Tables and lists count by their content, images, masks and large annotations by name, size and time of
modification. A folder of one's own is looked through completely; of a published dataset, which nobody
edits image by image, only what decides which images there are.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from workflow_scripts.datasets.coco14 import Coco14DatasetSettings
from workflow_scripts.datasets.files import IMAGE_SUFFIXES, MASK_SUFFIXES
from workflow_scripts.datasets.folder import FolderDatasetSettings
from workflow_scripts.datasets.voc12 import Voc12DatasetSettings
from workflow_scripts.storage.file_state import content_digest, file_state, folder_state

DIGITS = 12
VOC_LISTS = ("train", "val", "train_aug", "trainaug", "test")


def dataset_tables(dataset: Any) -> list[Path]:
    """Tables, lists and annotations of a dataset that say which images it has; those that exist."""
    found: list[Path] = []
    if isinstance(dataset, FolderDatasetSettings):
        found = [Path(dataset.root) / dataset.labels]
    elif isinstance(dataset, Voc12DatasetSettings):
        if dataset.root is not None:
            lists = Path(dataset.root) / "ImageSets" / "Segmentation"
            found += [lists / f"{name}.txt" for name in VOC_LISTS]
        if dataset.sbd_root is not None:
            found += [Path(dataset.sbd_root) / f"{name}.txt" for name in ("train", "val")]
    elif isinstance(dataset, Coco14DatasetSettings) and dataset.root is not None:
        folder = Path(dataset.root) / "annotations"
        found = [folder / f"instances_{split}2014.json" for split in ("train", "val")]
    return [path for path in found if path.is_file()]


def dataset_state(dataset: Any) -> dict[str, str]:
    """State of each table and folder, by its path; what cannot be read is left to the stage.

    Args:
        dataset: Settings of the dataset.
    """
    small = not isinstance(dataset, Coco14DatasetSettings)
    state = {str(path): _read(path, small) for path in dataset_tables(dataset)}
    if isinstance(dataset, FolderDatasetSettings):
        root = Path(dataset.root)
        images, masks = root / dataset.images, root / dataset.masks
        if not images.is_dir():
            images = root
        for folder, suffixes in ((images, IMAGE_SUFFIXES), (masks, MASK_SUFFIXES)):
            if folder.is_dir():
                state[str(folder)] = _read_folder(folder, suffixes, masks)
    return state


def _read(path: Path, small: bool) -> str:
    return _tolerant(lambda: content_digest(path)[:DIGITS] if small else file_state(path))


def _read_folder(folder: Path, suffixes: frozenset[str], masks: Path) -> str:
    def read() -> str:
        count, digest = folder_state(folder, suffixes, without=None if folder == masks else masks)
        return f"{count} files {digest[:DIGITS]}"

    return _tolerant(read)


def _tolerant(read: Callable[[], str]) -> str:
    try:
        return read()
    except OSError as error:
        return f"not readable: {error.strerror}"
