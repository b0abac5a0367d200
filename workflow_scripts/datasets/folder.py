"""A dataset of one's own: a folder of images, a table of their labels, and masks if there are any.

Nothing is copied: images and masks are used where they are.
"""

import logging
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

from pydantic import Field, field_validator

from workflow_scripts.datasets.folder_table import (
    IMAGE_SUFFIXES,
    MASK_SUFFIXES,
    SPLITS,
    Folder,
    TableRow,
    choose_classes,
    choose_splits,
    find_images,
    find_masks,
    make_ids,
    read_table,
)
from workflow_scripts.datasets.index import IndexRow, write_index
from workflow_scripts.datasets.masks import check_mask_file, image_size
from workflow_scripts.datasets.parallel import Progress, ordered_map
from workflow_scripts.errors import InputError
from workflow_scripts.settings.base import Settings
from workflow_scripts.storage.file_state import file_state

logger = logging.getLogger(__name__)


class FolderDatasetSettings(Settings):
    """A folder of images and a table with the columns `image` and `labels`."""

    kind: Literal["folder"] = Field(default="folder", description="Images of your own.")
    root: str = Field(
        default="data/folder",
        min_length=1,
        description="The folder that holds images, table and masks. It is never written to.",
    )
    images: str = Field(
        default="images",
        description=(
            "Folder of the images, inside `root`; `root` itself where there is no such folder."
        ),
    )
    labels: str = Field(
        default="labels.csv",
        min_length=1,
        description=(
            "Table of the images, inside `root`: a CSV file with a column `image` (a path inside"
            " the folder of images), a column `labels` (class names separated by `;`, empty for an"
            " image that shows none) and, optionally, a column `split` (`train`, `val`)."
        ),
    )
    masks: str = Field(
        default="masks",
        min_length=1,
        description=(
            "Folder of ground-truth masks for evaluation, inside `root`; it may be missing. The"
            " mask of `cat.jpg` is the indexed or grey `cat.png` (or `cat.jpg.png`): 0 background,"
            " i the i-th class, 255 ignore."
        ),
    )
    classes: tuple[str, ...] = Field(
        default=(),
        description="Names of the classes, in order. Empty: all names in the table, sorted.",
    )
    val_share: float = Field(
        default=0.2,
        gt=0,
        lt=1,
        description="Share of the images that become split `val` where the table has no `split`.",
    )
    split_seed: int = Field(
        default=0,
        ge=0,
        description="Seed of that choice; it depends on the ids of the images alone.",
    )

    @field_validator("classes")
    @classmethod
    def _names_are_usable(cls, classes: tuple[str, ...]) -> tuple[str, ...]:
        for name in classes:
            if not name.strip() or name != name.strip() or ";" in name:
                raise ValueError(
                    f"class name {name!r}: must not be empty, hold `;`, or begin or end with a"
                    " space"
                )
        double = sorted({name for name in classes if classes.count(name) > 1})
        if double:
            raise ValueError(f"class named twice: {', '.join(double)}")
        if len(classes) > 254:
            raise ValueError("masks have 8 bits: at most 254 classes")
        return classes


@dataclass(frozen=True, slots=True)
class _Image:
    id: str
    path: Path
    split: str
    labels: tuple[str, ...]
    mask: Path | None


def prepare(
    settings: FolderDatasetSettings,
    output: Path,
    processes: int,
    progress: Progress | None = None,
) -> None:
    """Check all images and masks, and write output/classes.csv and output/index.csv.

    Args:
        settings: Folder, table, classes and split.
        output: Folder to write to.
        processes: Number of worker processes; changes no result.
        progress: Called for each image.

    Raises:
        InputError: A row, an image or a mask cannot be used. The message names it.
    """
    root = Path(settings.root).absolute()
    if not root.is_dir():
        raise InputError(f"{root}: no such folder; `dataset.root` must name the folder of images")
    table = root / settings.labels
    rows = read_table(table)
    classes = choose_classes(table, rows, settings.classes)
    folder = root / settings.images
    files = Folder.scan(
        folder if folder.is_dir() else root, IMAGE_SUFFIXES, without=root / settings.masks
    )
    names = find_images(table, rows, files)
    ids = make_ids(names)
    splits = _splits(table, rows, ids, settings)
    masks = _masks(root / settings.masks, names)
    images = [
        _Image(image_id, files.files[name], split, row.labels, mask)
        for image_id, name, split, row, mask in zip(ids, names, splits, rows, masks, strict=True)
    ]
    _report(table, images, classes)
    write_index(output / "index.csv", classes, _rows(images, classes, processes, progress))


def _splits(
    table: Path, rows: Sequence[TableRow], ids: Sequence[str], settings: FolderDatasetSettings
) -> list[str]:
    splits = [row.split for row in rows if row.split is not None]
    if not splits:
        return choose_splits(ids, settings.val_share, settings.split_seed)
    for needed in SPLITS:
        if needed not in splits:
            raise InputError(
                f"{table}: no image is in split `{needed}` (the column `split` holds"
                f" {', '.join(sorted(set(splits)))}). Put some there, or remove the column: then"
                " `dataset.val_share` of the images become `val`."
            )
    return splits


def _masks(folder: Path, names: Sequence[str]) -> list[Path | None]:
    if not folder.is_dir():
        logger.info("%s: no such folder; the dataset has no ground truth to evaluate on", folder)
        return [None] * len(names)
    masks = Folder.scan(folder, MASK_SUFFIXES)
    found = find_masks(names, masks)
    spare = set(masks.files.values()) - set(found)
    if spare and not any(found):
        raise InputError(
            f"{folder}: none of the {len(spare)} mask(s) belongs to an image of the table. The mask of"
            " cat.jpg is cat.png, or cat.jpg.png where several images are called cat."
        )
    if spare:
        logger.warning(
            "%s: %d mask(s) belong to no image, for instance %s. The mask of cat.jpg is cat.png,"
            " or cat.jpg.png where several images are called cat.",
            folder,
            len(spare),
            min(path.name for path in spare if path is not None),
        )
    return found


def _report(table: Path, images: Sequence[_Image], classes: Sequence[str]) -> None:
    """Say what the dataset holds, and warn of what makes results hard to read."""
    used = {label for image in images for label in image.labels}
    for split, count in Counter(image.split for image in images).items():
        chosen = [image for image in images if image.split == split]
        masks = sum(image.mask is not None for image in chosen)
        logger.info("%s, %s: %d images, %d with a mask", table, split, count, masks)
        if 0 < masks < count:
            logger.warning(
                "%s: %d images of split %s have no mask; evaluation leaves them out",
                table,
                count - masks,
                split,
            )
        shown = {label for image in chosen for label in image.labels}
        absent = [name for name in classes if name in used and name not in shown]
        if absent and split in SPLITS:
            logger.warning(
                "%s: no image of split %s has the class %s",
                table,
                split,
                ", ".join(map(repr, absent)),
            )


def _rows(
    images: Sequence[_Image],
    classes: Sequence[str],
    processes: int,
    progress: Progress | None,
) -> Iterator[IndexRow]:
    describe = partial(_describe, classes=tuple(classes))
    odd: list[str] = []
    for done, (row, unlabelled) in enumerate(ordered_map(describe, images, processes), start=1):
        yield row
        odd += [f"{row.mask} shows {name!r}" for name in unlabelled]
        if progress is not None:
            progress("images", done, len(images), "img")
    if odd:
        logger.warning(
            "%d time(s) a mask shows a class that its image's labels do not name: %s%s. Correct the"
            " masks or the labels; no method can find such a class.",
            len(odd),
            "; ".join(odd[:3]),
            " …" if len(odd) > 3 else "",
        )


def _describe(image: _Image, classes: tuple[str, ...]) -> tuple[IndexRow, list[str]]:
    """Check an image and its mask; return its row, and classes of its mask that are no label."""
    size = image_size(image.path)
    unlabelled = []
    if image.mask is not None:
        present = check_mask_file(image.mask, size, len(classes), image.path)
        names = [classes[number - 1] for number in present]
        unlabelled = [name for name in names if name not in image.labels]
    mask = str(image.mask) if image.mask is not None else ""
    state = "/".join(file_state(path) for path in (image.path, image.mask) if path is not None)
    row = IndexRow(image.id, str(image.path), *size, image.split, image.labels, mask, state)
    return row, unlabelled
