"""PASCAL VOC 2012 with the additional images of the Semantic Boundaries Dataset (SBD).

Splits: `train` and `val` are the devkit's segmentation lists (1,464 and 1,449 images). `train_aug`
holds what SBD adds: its train and val lists without VOC's val, so that no image is both learnt from and
evaluated on, and without VOC's train, whose own masks are better (9,118 images; 10,582 with `train`).
`test` is the devkit's, without labels and masks.

An image's labels are the classes of the objects in its XML annotation, difficult ones included unless
configured otherwise; where it has no annotation, the classes in its mask. Images and VOC's masks stay
where they are, with their ignored border of 255; SBD's masks are converted to `output/masks`.
"""

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from workflow_scripts.datasets.index import IndexRow, write_index
from workflow_scripts.datasets.masks import check_mask, check_mask_file, image_size
from workflow_scripts.datasets.parallel import ordered_map
from workflow_scripts.datasets.progress import Progress
from workflow_scripts.datasets.sources import obtain
from workflow_scripts.datasets.voc_annotations import (
    CLASSES,
    labels_from_xml,
    mask_from_sbd,
    read_list,
)
from workflow_scripts.errors import InputError
from workflow_scripts.settings.voc12_dataset import Voc12DatasetSettings
from workflow_scripts.storage.atomic import atomic_folder
from workflow_scripts.storage.masks import encode_mask

logger = logging.getLogger(__name__)

PUBLISHED = {"train": 1464, "train_aug": 9118, "val": 1449, "test": 1456}
LISTS = Path("ImageSets") / "Segmentation"
_DEVKIT = "VOCdevkit/VOC2012"
_DEVKIT_PARTS = tuple(
    f"{_DEVKIT}/{part}"
    for part in ("JPEGImages", "Annotations", "SegmentationClass", "ImageSets/Segmentation")
)
_SBD = "benchmark_RELEASE/dataset"
_SBD_PARTS = tuple(f"{_SBD}/{part}" for part in ("cls", "train.txt", "val.txt"))


@dataclass(frozen=True, slots=True)
class _Image:
    """What a worker needs to know of one image; `mask` is a PNG, `sbd` a .mat file, or neither."""

    id: str
    split: str
    devkit: Path
    mask: Path | None = None
    sbd: Path | None = None


def prepare(
    settings: Voc12DatasetSettings,
    output: Path,
    processes: int,
    progress: Progress | None = None,
) -> None:
    """Write output/classes.csv, output/masks (SBD's, converted) and output/index.csv.

    Args:
        settings: Where the archives or folders are, and which splits to make.
        output: Folder to write to.
        processes: Number of worker processes; changes no result.
        progress: Called as the work goes on.

    Raises:
        InputError: A download failed, or a devkit is incomplete or damaged.
    """
    images = _images(settings, progress)
    for split in sorted({image.split for image in images}):
        count = sum(image.split == split for image in images)
        logger.info("VOC 2012, %s: %d images (%d as published)", split, count, PUBLISHED[split])
    write_index(output / "index.csv", CLASSES, _rows(images, settings, output, processes, progress))


def _images(settings: Voc12DatasetSettings, progress: Progress | None) -> list[_Image]:
    """All images of all splits, in the order of the index."""
    if settings.root is None:
        devkit = obtain(settings.trainval, settings.download, _DEVKIT_PARTS, progress) / _DEVKIT
    else:
        devkit = Path(settings.root).absolute()
    _require(devkit, ("JPEGImages", "SegmentationClass", str(LISTS)), "root")
    train = read_list(devkit / LISTS / "train.txt")
    val = read_list(devkit / LISTS / "val.txt")
    both = sorted(set(train) & set(val))
    if both:
        raise InputError(
            f"{devkit / LISTS}: image {both[0]!r} is in train.txt and in val.txt; an image that is"
            " evaluated on must not be learnt from"
        )
    images = [
        _Image(name, split, devkit, mask=devkit / "SegmentationClass" / f"{name}.png")
        for split, names in (("train", train), ("val", val))
        for name in names
    ]
    if settings.augmented:
        images += _augmentation(settings, devkit, set(train) | set(val), progress)
    if settings.test_images:
        folder = devkit
        if settings.test.address:
            folder = obtain(settings.test, settings.download, _DEVKIT_PARTS, progress) / _DEVKIT
        images += [_Image(name, "test", folder) for name in read_list(folder / LISTS / "test.txt")]
    return [image for split in PUBLISHED for image in images if image.split == split]


def _augmentation(
    settings: Voc12DatasetSettings, devkit: Path, known: set[str], progress: Progress | None
) -> Iterator[_Image]:
    """Images that SBD adds to those `known`, from the devkit itself if it has been completed."""
    lists = [devkit / LISTS / name for name in ("train_aug.txt", "trainaug.txt")]
    masks = devkit / "SegmentationClassAug"
    ready = next((path for path in lists if path.is_file()), None)
    if ready is not None and masks.is_dir() and settings.sbd_root is None:
        logger.info("VOC 2012, train_aug: %s and %s", ready, masks)
        for name in read_list(ready):
            if name not in known:
                yield _Image(name, "train_aug", devkit, mask=masks / f"{name}.png")
        return
    if settings.sbd_root is None:
        sbd = obtain(settings.sbd, settings.download, _SBD_PARTS, progress) / _SBD
    else:
        sbd = Path(settings.sbd_root).absolute()
    _require(sbd, ("cls",), "sbd_root")
    names = set(read_list(sbd / "train.txt")) | set(read_list(sbd / "val.txt"))
    for name in sorted(names - known):
        yield _Image(name, "train_aug", devkit, sbd=sbd / "cls" / f"{name}.mat")


def _require(folder: Path, parts: tuple[str, ...], field: str) -> None:
    missing = [part for part in parts if not (folder / part).is_dir()]
    if missing:
        raise InputError(
            f"{folder}: no folder {' and no folder '.join(missing)} in it. `{field}` must be the"
            f" folder {_DEVKIT if field == 'root' else _SBD} of the extracted archive."
        )


def _rows(
    images: list[_Image],
    settings: Voc12DatasetSettings,
    output: Path,
    processes: int,
    progress: Progress | None,
) -> Iterator[IndexRow]:
    with atomic_folder(output / "masks") as masks:
        describe = partial(_describe, difficult=settings.difficult, masks=masks)
        for done, row in enumerate(ordered_map(describe, images, processes), start=1):
            yield row
            if progress is not None:
                progress("images", done, len(images), "img")


def _describe(image: _Image, difficult: bool, masks: Path) -> IndexRow:
    """Make an image's row; convert its mask if it is SBD's."""
    path = image.devkit / "JPEGImages" / f"{image.id}.jpg"
    size = image_size(path)
    present: tuple[int, ...] = ()
    mask = ""
    if image.sbd is not None:
        labels = mask_from_sbd(image.sbd)
        present = check_mask(labels, size, len(CLASSES), image.sbd, path)
        (masks / f"{image.id}.png").write_bytes(encode_mask(labels))
        mask = f"masks/{image.id}.png"
    elif image.mask is not None:
        if not image.mask.is_file():
            raise InputError(
                f"{image.mask}: no such mask, though {image.id} is listed as a {image.split} image."
                " The devkit is incomplete: extract its archive anew."
            )
        present = check_mask_file(image.mask, size, len(CLASSES), path)
        mask = str(image.mask.absolute())
    annotation = image.devkit / "Annotations" / f"{image.id}.xml"
    if image.split == "test":
        names: tuple[str, ...] = ()
    elif annotation.is_file():
        names = labels_from_xml(annotation, difficult)
    else:
        names = tuple(CLASSES[number - 1] for number in present)
    return IndexRow(image.id, str(path.absolute()), *size, image.split, names, mask)
