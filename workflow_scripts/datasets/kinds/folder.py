"""A dataset of one's own: a folder of images, a table of their labels, and masks if there are any.

Nothing is copied: images and masks are used where they are.
"""

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np
from pydantic import Field, field_validator

from workflow_scripts.datasets.consistency import Described, write_dataset
from workflow_scripts.datasets.files import IMAGE_SUFFIXES, MASK_SUFFIXES, OTHER, Folder
from workflow_scripts.datasets.images import check_mask, image_size, read_mask
from workflow_scripts.datasets.index import IndexRow, check_classes
from workflow_scripts.datasets.label_map import NAME, find_label_map, masks_in, read_label_map
from workflow_scripts.datasets.parallel import ordered_map
from workflow_scripts.datasets.table import (
    SPLITS,
    TableRow,
    all_numbers,
    choose_classes,
    choose_splits,
    find_images,
    find_masks,
    make_ids,
    read_table,
)
from workflow_scripts.doors.dataset import DatasetSettings, Progress
from workflow_scripts.errors import InputError
from workflow_scripts.storage.file_state import content_digest, file_state
from workflow_scripts.storage.masks import IGNORE

logger = logging.getLogger(__name__)

_SHOWN = 10


class FolderDatasetSettings(DatasetSettings):
    """A folder of images and a table with the columns `image` and `labels`."""

    name: ClassVar[str] = "folder"

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
            " i the i-th class, 255 ignore. Masks in colours are read by the annotation tool's"
            " `labelmap.txt` with them, or in a folder above."
        ),
    )
    classes: tuple[str, ...] = Field(
        default=(),
        description=(
            "Names of the classes, in order. Empty: those of `labelmap.txt` where one lies with the"
            " masks, else all names in the table, sorted."
        ),
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
        if any(name != name.strip() for name in classes):
            raise ValueError("names of classes must not begin or end with a space; remove it")
        if classes:
            try:
                check_classes(classes, "the list of classes")
            except InputError as error:
                raise ValueError(str(error)) from None
        return classes

    def prepare(self, output: Path, processes: int, progress: Progress | None = None) -> None:
        """See `DatasetSettings`."""
        prepare(self, output, processes, progress)

    @property
    def images_folder(self) -> Path:
        """The folder of the images: `root` itself where there is none of that name inside."""
        folder = Path(self.root) / self.images
        return folder if folder.is_dir() else Path(self.root)

    def mask_files(self) -> Folder:
        """The files in the folder of masks; none if there is no such folder."""
        folder = self.masks_folder
        return Folder.scan(folder, MASK_SUFFIXES) if folder.is_dir() else Folder(folder, {})

    @property
    def masks_folder(self) -> Path:
        """The folder of the masks, which an annotation tool's export may have inside."""
        return masks_in(Path(self.root) / self.masks)

    def tables(self) -> list[Path]:
        """The table of labels."""
        table = Path(self.root) / self.labels
        return [table] if table.is_file() else []

    def state(self) -> dict[str, str]:
        """The table by its content, images and masks by name, size and time."""
        state = super().state()
        masks = self.mask_files()
        if self.images_folder.is_dir():
            images = Folder.scan(self.images_folder, IMAGE_SUFFIXES, [masks.path])
            state[str(images.path)] = images.state()
        if masks.path.is_dir():
            state[str(masks.path)] = masks.state()
            for label_map in _label_maps(masks.path):
                state[str(label_map)] = content_digest(label_map)
        return state

    def has_masks(self) -> bool:
        """Whether there is any file in the folder of masks."""
        return bool(self.mask_files().files)


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
        InputError: A row, an image or a mask cannot be used. The message names it, or all of them.
    """
    root = Path(settings.root).absolute()
    if not root.is_dir():
        raise InputError(f"{root}: no such folder; `dataset.root` must name the folder of images")
    table = root / settings.labels
    masks_folder = settings.masks_folder.absolute()
    configured = _configured(settings, masks_folder)
    rows = read_table(table, configured)
    classes = choose_classes(table, rows, configured)
    folder = settings.images_folder.absolute()
    files = Folder.scan(folder, IMAGE_SUFFIXES, [root / settings.masks, output])
    names = find_images(table, rows, files)
    ids = make_ids(names)
    splits = _splits(table, rows, ids, settings)
    masks, spare = _masks(masks_folder, names)
    _check_label_map_serves(masks_folder, masks)
    if any(masks) and not configured:
        _check_numbers(table, classes)
    images = [
        _Image(image_id, files.files[name], split, row.labels, mask)
        for image_id, name, split, row, mask in zip(ids, names, splits, rows, masks, strict=True)
    ]
    # Tables and notes beside the images are meant to be there.
    left_out = {why: names for why, names in files.left_out.items() if why != OTHER} | spare
    if left_out:
        Folder(files.path, {}, left_out).tell()
    left_out |= {"images without a row": sorted(set(files.files) - set(names))}
    described = _described(table, images, classes, processes, progress)
    write_dataset(
        output, classes, described, {why: names for why, names in left_out.items() if names}
    )


def _label_maps(masks: Path) -> list[Path]:
    """Label maps of the masks: the one in their folder or above it, and those in sub-folders."""
    above = find_label_map(masks)
    return [*([above] if above else []), *sorted(p for p in masks.rglob(NAME) if p != above)]


def _check_label_map_serves(masks_folder: Path, masks: Sequence[Path | None]) -> None:
    """Refuse a label map in a sub-folder where there are masks outside of it."""
    found = _label_maps(masks_folder) if any(masks) else []
    for label_map in found:
        outside = [m for m in masks if m is not None and label_map.parent not in m.parents]
        if outside:
            raise InputError(
                f"{label_map}: serves the masks beside and below it, and {outside[0]} is elsewhere; move it"
                f" to {masks_folder}, so that it serves all"
            )


def _configured(settings: FolderDatasetSettings, masks: Path) -> tuple[str, ...]:
    """The classes in order, as far as anything says it: the configuration, or the masks' label map."""
    if not masks.is_dir():
        return settings.classes
    found = _label_maps(masks)
    if not found:
        return settings.classes
    if len(found) > 1:
        first, path, *_ = found
        raise InputError(
            f"{path}: a second label map, beside {first}; one must serve for all masks. Join them, in"
            f" {masks}."
        )
    label_map = read_label_map(found[0])
    if settings.classes and settings.classes != label_map.classes:
        raise InputError(
            f"{label_map.path}: its classes are {', '.join(label_map.classes)}, those of `dataset.classes`"
            f" {', '.join(settings.classes)}. Remove `dataset.classes`, or bring one into the order of"
            " the other."
        )
    return label_map.classes


def _check_numbers(table: Path, classes: Sequence[str]) -> None:
    """Refuse numbers as names of classes that are not their numbers in masks."""
    wrong = [(i, name) for i, name in enumerate(classes, start=1) if name != str(i)]
    if wrong and all_numbers(classes):
        number, name = wrong[0]
        raise InputError(
            f"{table}: the labels are numbers, and {name!r} would be class {number}, which has the value"
            f" {number} in masks. List all classes in the order of the masks' values in `dataset.classes`"
            f" (now {', '.join(classes[:8])}{', …' if len(classes) > 8 else ''}), or use names."
        )


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


def _masks(folder: Path, names: Sequence[str]) -> tuple[list[Path | None], dict[str, list[str]]]:
    """The mask of each image, and what is left out of the folder, by reason."""
    if not folder.is_dir():
        logger.info("%s: no such folder; the dataset has no ground truth to evaluate on", folder)
        return [None] * len(names), {}
    masks = Folder.scan(folder, MASK_SUFFIXES)
    found = find_masks(names, masks)
    used = set(found)
    spare = [name for name, path in masks.files.items() if path not in used]
    rule = "The mask of cat.jpg is cat.png, or cat.jpg.png where several images are called cat."
    if not any(found):
        if not spare and not masks.left_out:
            logger.warning(
                "%s: the folder of masks is empty; there is nothing to evaluate on", folder
            )
            return found, {}
        what = f"none of its {len(spare)} mask(s) belongs to an image of the table"
        if not spare:
            what = f"it holds no mask that can be read; left out: {masks.summary()}"
        raise InputError(
            f"{folder}: {what}. {rule} Put PNG masks there, or remove the folder to go on without."
        )
    if spare:
        logger.warning(
            "%s: %d mask(s) belong to no image, for instance %s. %s",
            folder,
            len(spare),
            spare[0],
            rule,
        )
    masks.tell()
    left_out = {f"{why}, among the masks": names for why, names in masks.left_out.items()}
    return found, left_out | ({"masks without an image": spare} if spare else {})


def _described(
    table: Path,
    images: Sequence[_Image],
    classes: Sequence[str],
    processes: int,
    progress: Progress | None,
) -> Iterator[Described]:
    """Check the images; InputError at the end that names all that cannot be used."""
    describe = partial(_describe, classes=tuple(classes))
    wrong: list[str] = []
    for done, result in enumerate(ordered_map(describe, images, processes), start=1):
        if isinstance(result, str):
            wrong.append(result)
        else:
            yield result
        if progress is not None:
            progress("images", done, len(images), "img")
    if len(wrong) == 1:
        raise InputError(wrong[0])
    if wrong:
        lines = "\n".join(f"  {line}" for line in wrong[:_SHOWN])
        more = f"\n  … and {len(wrong) - _SHOWN} more" if len(wrong) > _SHOWN else ""
        raise InputError(
            f"{table}: {len(wrong)} of {len(images)} images cannot be used; mend them, or remove their"
            f" rows:\n{lines}{more}"
        )


def _describe(image: _Image, classes: tuple[str, ...]) -> Described | str:
    """Check an image and its mask; return its row and what the mask shows, or what is wrong."""
    shown = None
    ignored = False
    try:
        size = image_size(image.path)
        if image.mask is not None:
            mask = read_mask(image.mask)
            present = check_mask(mask, size, len(classes), image.mask, image.path)
            shown = tuple(classes[number - 1] for number in present)
            ignored = bool(np.any(mask == IGNORE))
    except InputError as error:
        return str(error)
    name = str(image.mask) if image.mask is not None else ""
    state = "/".join(file_state(path) for path in (image.path, image.mask) if path is not None)
    row = IndexRow(image.id, str(image.path), *size, image.split, image.labels, name, state)
    return Described(row, shown, ignored)
