"""MS COCO 2014: images, and masks rendered from its instance annotations.

The 80 classes are numbered in the order of the file's categories. An image's labels are the classes of
all its annotations, crowds included; an image without any is background. Masks are drawn as
`coco_annotations.render` says: crowds ignored, smaller objects on top.
"""

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np
from pydantic import Field

from workflow_scripts.datasets.archives import obtain
from workflow_scripts.datasets.coco_annotations import (
    CocoFile,
    CocoImage,
    Identifier,
    labels_of,
    read_again,
    read_annotations,
    render,
)
from workflow_scripts.datasets.consistency import Described, write_dataset
from workflow_scripts.datasets.download import (
    ADDRESS,
    CHECKSUM,
    CHECKSUM_PATTERN,
    ArchiveSettings,
    DownloadSettings,
)
from workflow_scripts.datasets.images import image_size
from workflow_scripts.datasets.index import IndexRow
from workflow_scripts.datasets.parallel import ordered_map
from workflow_scripts.doors.dataset import DatasetSettings, Progress
from workflow_scripts.errors import InputError
from workflow_scripts.storage.atomic import atomic_folder
from workflow_scripts.storage.file_state import file_state
from workflow_scripts.storage.masks import IGNORE, encode_mask

logger = logging.getLogger(__name__)

SPLITS = ("train", "val")
PUBLISHED = {"train": 82783, "val": 40504}


class TrainImagesArchive(ArchiveSettings):
    """train2014.zip (13 GB)."""

    address: str = Field(
        default="http://images.cocodataset.org/zips/train2014.zip",
        min_length=1,
        description=ADDRESS,
    )
    checksum: str = Field(
        default="md5:0da8c0bd3d6becc4dcb32757491aca88",
        pattern=CHECKSUM_PATTERN,
        description=CHECKSUM,
    )


class ValImagesArchive(ArchiveSettings):
    """val2014.zip (6 GB)."""

    address: str = Field(
        default="http://images.cocodataset.org/zips/val2014.zip", min_length=1, description=ADDRESS
    )
    checksum: str = Field(
        default="md5:a3d79f5ed8d289b7a7554ce06a5782b3",
        pattern=CHECKSUM_PATTERN,
        description=CHECKSUM,
    )


class AnnotationsArchive(ArchiveSettings):
    """annotations_trainval2014.zip (241 MB)."""

    address: str = Field(
        default="http://images.cocodataset.org/annotations/annotations_trainval2014.zip",
        min_length=1,
        description=ADDRESS,
    )
    checksum: str = Field(
        default="md5:0a379cfc70b0e71301e0f377548639bd",
        pattern=CHECKSUM_PATTERN,
        description=CHECKSUM,
    )


class Coco14DatasetSettings(DatasetSettings):
    """MS COCO 2014: 80 classes; splits `train` (82,783 images) and `val` (40,504)."""

    name: ClassVar[str] = "coco14"

    kind: Literal["coco14"] = Field(default="coco14", description="MS COCO 2014.")
    root: str | None = Field(
        default=None,
        description=(
            "A copy that is already here: a folder with `train2014`, `val2014` and"
            " `annotations/instances_{train,val}2014.json`. It is used in place and never written"
            " to. Without it, the archives are fetched."
        ),
    )
    train_images: TrainImagesArchive = Field(
        default=TrainImagesArchive(), description="Archive of the training images."
    )
    val_images: ValImagesArchive = Field(
        default=ValImagesArchive(), description="Archive of the validation images."
    )
    annotations: AnnotationsArchive = Field(
        default=AnnotationsArchive(), description="Archive of the instance annotations."
    )
    download: DownloadSettings = Field(
        default=DownloadSettings(), description="How archives are fetched and where they are kept."
    )

    def prepare(self, output: Path, processes: int, progress: Progress | None = None) -> None:
        """See `DatasetSettings`."""
        prepare(self, output, processes, progress)

    def splits(self) -> tuple[str, ...]:
        """See `DatasetSettings`."""
        return SPLITS

    def tables(self) -> list[Path]:
        """The files of annotations."""
        if self.root is None:
            return []
        folder = Path(self.root) / "annotations"
        files = (folder / f"instances_{split}2014.json" for split in SPLITS)
        return [path for path in files if path.is_file()]

    def state(self) -> dict[str, str]:
        """Annotations count by size and time: they are half a gigabyte."""
        return {str(path): file_state(path) for path in self.tables()}


@dataclass(frozen=True, slots=True)
class _Split:
    name: str
    images: Path
    annotations: CocoFile


def prepare(
    settings: Coco14DatasetSettings,
    output: Path,
    processes: int,
    progress: Progress | None = None,
) -> None:
    """Write output/classes.csv, output/masks and output/index.csv.

    Memory grows with the number of images by their names and the places of their annotations alone.

    Args:
        settings: Where the archives or folders are.
        output: Folder to write to.
        processes: Number of worker processes; changes no result.
        progress: Called as the work goes on.

    Raises:
        InputError: A download failed, or the data are incomplete or damaged.
    """
    splits = _splits(settings, progress)
    first = splits[0].annotations
    for split in splits:
        if split.annotations.numbers != first.numbers or split.annotations.classes != first.classes:
            raise InputError(
                f"{split.annotations.path}: its categories differ from those of {first.path}; take both"
                " files from one archive"
            )
        count = len(split.annotations.images)
        empty = sum(not image.spans for image in split.annotations.images)
        logger.info(
            "COCO 2014, %s: %d images (%d as published), %d of them without any object",
            split.name,
            count,
            PUBLISHED[split.name],
            empty,
        )
    write_dataset(output, first.classes, _described(splits, output, processes, progress))


def _splits(settings: Coco14DatasetSettings, progress: Progress | None) -> list[_Split]:
    """Where images and annotations are, after fetching them if they are not here."""
    if settings.root is None:
        annotations = obtain(
            settings.annotations,
            settings.download,
            [f"annotations/instances_{split}2014.json" for split in SPLITS],
            progress,
        )
        roots = {
            "train": obtain(settings.train_images, settings.download, ["train2014"], progress),
            "val": obtain(settings.val_images, settings.download, ["val2014"], progress),
        }
    else:
        annotations = Path(settings.root)
        roots = dict.fromkeys(SPLITS, annotations)
    splits = []
    for split in SPLITS:
        images = (roots[split] / f"{split}2014").absolute()
        if not images.is_dir():
            raise InputError(
                f"{images}: no such folder. `root` must hold train2014, val2014 and annotations."
            )
        path = annotations / "annotations" / f"instances_{split}2014.json"
        splits.append(_Split(split, images, read_annotations(path)))
    return splits


def _described(
    splits: list[_Split], output: Path, processes: int, progress: Progress | None
) -> Iterator[Described]:
    total = sum(len(split.annotations.images) for split in splits)
    done = 0
    with atomic_folder(output / "masks") as masks:
        for split in splits:
            (masks / split.name).mkdir()
            describe = partial(
                _describe,
                split=split.name,
                folder=split.images,
                annotations=split.annotations.path,
                classes=split.annotations.classes,
                numbers=split.annotations.numbers,
                masks=masks / split.name,
            )
            for row in ordered_map(describe, split.annotations.images, processes):
                yield row
                done += 1
                if progress is not None:
                    progress("images", done, total, "img")


def _describe(
    image: CocoImage,
    split: str,
    folder: Path,
    annotations: Path,
    classes: tuple[str, ...],
    numbers: dict[Identifier, int],
    masks: Path,
) -> Described:
    """Render an image's mask and make its row."""
    path = folder / image.name
    size = image_size(path)
    if size != (image.width, image.height):
        raise InputError(
            f"{path}: {size[0]}×{size[1]} pixels, {annotations} says {image.width}×{image.height}."
            " Take images and annotations of one version."
        )
    things = [read_again(annotations, start, end) for start, end in image.spans]
    try:
        labels = labels_of(things, numbers)
        mask = render(things, image.height, image.width, numbers)
    except InputError as error:
        raise InputError(f"{annotations}, image {image.name}: {error}") from error
    (masks / f"{path.stem}.png").write_bytes(encode_mask(mask))
    names = [classes[number - 1] for number in labels]
    row = IndexRow(path.stem, str(path), *size, split, names, f"masks/{split}/{path.stem}.png")
    shown = [classes[number - 1] for number in np.unique(mask) if number not in (0, IGNORE)]
    return Described(row, tuple(shown))
