"""PASCAL VOC 2012 with the additional images of the Semantic Boundaries Dataset (SBD).

Splits: `train` and `val` are the devkit's segmentation lists (1,464 and 1,449 images). `train_aug`
holds what SBD adds: its train and val lists without VOC's val, so that no image is both learnt from and
evaluated on, and without VOC's train, whose own masks are better (9,118 images; 10,582 with `train`).
`test` is the devkit's, without labels and masks.

An image's labels are the classes of the objects in its XML annotation, difficult ones included unless
configured otherwise; where it has no annotation, the classes in its mask. Images and VOC's masks stay
where they are, with their ignored border of 255; SBD's masks are converted to `output/masks`.
"""

import difflib
import logging
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np
from pydantic import Field, model_validator

from workflow_scripts.datasets.archives import obtain
from workflow_scripts.datasets.consistency import Described, write_dataset
from workflow_scripts.datasets.download import (
    ADDRESS,
    CHECKSUM,
    CHECKSUM_PATTERN,
    ArchiveSettings,
    DownloadSettings,
)
from workflow_scripts.datasets.files import IMAGE_SUFFIXES, with_suffix_of
from workflow_scripts.datasets.images import check_mask, image_size, read_mask
from workflow_scripts.datasets.index import IndexRow
from workflow_scripts.datasets.parallel import ordered_map
from workflow_scripts.doors.dataset import DatasetSettings, Progress
from workflow_scripts.errors import InputError
from workflow_scripts.storage.atomic import atomic_folder
from workflow_scripts.storage.masks import encode_mask

logger = logging.getLogger(__name__)

PUBLISHED = {"train": 1464, "train_aug": 9118, "val": 1449, "test": 1456}
LISTS = Path("ImageSets") / "Segmentation"
PHOTO_SUFFIXES = (".jpg", ".jpeg", ".png")
_DEVKIT = "VOCdevkit/VOC2012"
_DEVKIT_PARTS = tuple(
    f"{_DEVKIT}/{part}"
    for part in ("JPEGImages", "Annotations", "SegmentationClass", "ImageSets/Segmentation")
)
_SBD = "benchmark_RELEASE/dataset"
_SBD_PARTS = tuple(f"{_SBD}/{part}" for part in ("cls", "train.txt", "val.txt"))
CLASSES = (
    "aeroplane",
    "bicycle",
    "bird",
    "boat",
    "bottle",
    "bus",
    "car",
    "cat",
    "chair",
    "cow",
    "diningtable",
    "dog",
    "horse",
    "motorbike",
    "person",
    "pottedplant",
    "sheep",
    "sofa",
    "train",
    "tvmonitor",
)


class TrainvalArchive(ArchiveSettings):
    """VOCtrainval_11-May-2012.tar; address and MD5 as torchvision publishes them."""

    address: str = Field(
        default="https://thor.robots.ox.ac.uk/pascal/VOC/voc2012/VOCtrainval_11-May-2012.tar",
        min_length=1,
        description=ADDRESS,
    )
    checksum: str = Field(
        default="md5:6cd6e144f989b92b3379bac3b3de84fd",
        pattern=CHECKSUM_PATTERN,
        description=CHECKSUM,
    )


class SbdArchive(ArchiveSettings):
    """SBD's benchmark.tgz; address and MD5 as torchvision publishes them."""

    address: str = Field(
        default=(
            "https://www2.eecs.berkeley.edu/Research/Projects/CS/vision/grouping/"
            "semantic_contours/benchmark.tgz"
        ),
        min_length=1,
        description=ADDRESS,
    )
    checksum: str = Field(
        default="md5:82b4d87ceb2ed10f6038a1cba92111cb",
        pattern=CHECKSUM_PATTERN,
        description=CHECKSUM,
    )


class TestArchive(ArchiveSettings):
    """VOC2012test.tar, which the organisers give to registered users only."""

    __test__ = False  # pytest would collect a class of this name

    address: str = Field(
        default="",
        description=(
            "Path of VOC2012test.tar: http://host.robots.ox.ac.uk:8080 gives it to registered"
            " users. Empty: the test images are expected in `root`."
        ),
    )
    checksum: str = Field(
        default="md5:9065beb292b6c291fad82b2725749fda",
        pattern=CHECKSUM_PATTERN,
        description=CHECKSUM,
    )


class Voc12DatasetSettings(DatasetSettings):
    """PASCAL VOC 2012: 20 classes.

    Splits of the index: `train` (1,464 images), `val` (1,449), `train_aug` (the 9,118 images that
    SBD adds; with `train` they are the 10,582 of the literature) and, on demand, `test` (1,456).
    """

    name: ClassVar[str] = "voc12"

    kind: Literal["voc12"] = Field(default="voc12", description="PASCAL VOC 2012.")
    root: str | None = Field(
        default=None,
        description=(
            "A devkit that is already here: the folder `VOCdevkit/VOC2012`, with `JPEGImages`,"
            " `Annotations`, `SegmentationClass` and `ImageSets`. It is used in place and never"
            " written to. Without it, `trainval` is fetched."
        ),
    )
    sbd_root: str | None = Field(
        default=None,
        description=(
            "SBD that is already here: the folder `benchmark_RELEASE/dataset`, with `cls`,"
            " `train.txt` and `val.txt`. Without it, `sbd` is fetched if it is needed."
        ),
    )
    augmented: bool = Field(
        default=True,
        description=(
            "Add the split `train_aug`. A devkit with `SegmentationClassAug` and a list"
            " `ImageSets/Segmentation/train_aug.txt` (or `trainaug.txt`) is used as it is; any"
            " other is completed from SBD."
        ),
    )
    test_images: bool = Field(
        default=False,
        description="Add the split `test`, whose masks only VOC's evaluation server has.",
    )
    difficult: bool = Field(
        default=True,
        description=(
            "Count objects that the annotations call difficult as labels of their image, as the"
            " label files in common use do."
        ),
    )
    trainval: TrainvalArchive = Field(
        default=TrainvalArchive(), description="Archive of training and validation images."
    )
    sbd: SbdArchive = Field(default=SbdArchive(), description="Archive of SBD.")
    test: TestArchive = Field(default=TestArchive(), description="Archive of the test images.")
    download: DownloadSettings = Field(
        default=DownloadSettings(), description="How archives are fetched and where they are kept."
    )

    @model_validator(mode="after")
    def _test_images_have_a_source(self) -> "Voc12DatasetSettings":
        if self.test_images and not (self.test.address or self.root):
            raise ValueError(
                "`test_images` needs `test.address` (the path of VOC2012test.tar) or a `root` that"
                " holds the test images"
            )
        return self

    def prepare(self, output: Path, processes: int, progress: Progress | None = None) -> None:
        """See `DatasetSettings`."""
        prepare(self, output, processes, progress)

    def splits(self) -> tuple[str, ...]:
        """See `DatasetSettings`."""
        more = {"train_aug": self.augmented, "test": self.test_images}
        return ("train", "val", *(name for name, there in more.items() if there))

    def tables(self) -> list[Path]:
        """The lists of images."""
        lists = []
        if self.root is not None:
            names = ("train", "val", "train_aug", "trainaug", "test")
            lists += [Path(self.root) / LISTS / f"{name}.txt" for name in names]
        if self.sbd_root is not None:
            lists += [Path(self.sbd_root) / f"{name}.txt" for name in ("train", "val")]
        return [path for path in lists if path.is_file()]


def labels_from_xml(path: Path, difficult: bool) -> tuple[str, ...]:
    """Return the names of the classes of which an annotation has an object, in VOC's order.

    Args:
        path: A file of the devkit's folder `Annotations`.
        difficult: Whether objects marked as difficult count.

    Raises:
        InputError: The file is no annotation, or an object's name is none of the 20 classes.
    """
    try:
        root = ElementTree.parse(path).getroot()
    except (OSError, ElementTree.ParseError, ValueError, LookupError) as error:
        raise InputError(
            f"{path}: not a readable annotation ({error}); extract the devkit's archive anew"
        ) from error
    if _tag(root) != "annotation":
        raise InputError(
            f"{path}: its root is <{_tag(root)}>, expected <annotation>; take the devkit's own file"
        )
    found = set()
    for thing in (child for child in root if _tag(child) == "object"):
        values = {_tag(child): (child.text or "").strip() for child in thing}
        name = values.get("name", "")
        if name not in CLASSES:
            near = difflib.get_close_matches(name.lower(), CLASSES, n=1)
            hint = f"is it {near[0]!r}?" if near else "correct it or remove the object"
            raise InputError(f"{path}: the object {name!r} is none of VOC's 20 classes; {hint}")
        if difficult or values.get("difficult", "0").lower() not in ("1", "true"):
            found.add(name)
    return tuple(name for name in CLASSES if name in found)


def _tag(element: ElementTree.Element) -> str:
    """An element's name without its namespace."""
    return element.tag.rpartition("}")[2]


def mask_from_sbd(path: Path) -> np.ndarray:
    """Return the class mask uint8[H, W] of a file of SBD's folder `cls`.

    SBD has no ignored border: values are 0 to 20.

    Raises:
        InputError: The file is missing, damaged or has no segmentation.
    """
    from scipy.io import loadmat

    try:
        # Opened here: loadmat adds a suffix to names, and says "no such file" of damaged ones.
        with path.open("rb") as stream:
            mask = np.asarray(loadmat(stream)["GTcls"][0]["Segmentation"][0])
    except FileNotFoundError:
        raise InputError(f"{path}: no such file; extract SBD's archive anew") from None
    except Exception as error:  # scipy raises almost anything on damaged files
        raise InputError(
            f"{path}: not a readable segmentation of SBD ({error}); extract it anew"
        ) from error
    if mask.ndim != 2 or mask.dtype != np.uint8:
        raise InputError(
            f"{path}: the segmentation is {mask.dtype}{list(mask.shape)}, not 8-bit; take SBD's own"
        )
    return mask


def read_list(path: Path) -> list[str]:
    """Return the image ids in a list of a devkit, in its order.

    A line may hold an id or, in lists that are passed around, paths of image and mask.

    Raises:
        InputError: The list is missing or names an image twice.
    """
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(
            f"{path}: the list of images cannot be read ({error}). The folder given as `root` or"
            " `sbd_root` is not the one that was expected, or is incomplete."
        ) from error
    ids = [_image_id(words[0]) for line in lines if (words := line.split())]
    if not ids:
        raise InputError(f"{path}: the list names no image; extract the devkit's archive anew")
    if len(set(ids)) < len(ids):
        double = next(name for name in ids if ids.count(name) > 1)
        raise InputError(f"{path}: image {double!r} is listed twice; remove one of the lines")
    return ids


def _image_id(word: str) -> str:
    name = word.replace("\\", "/").rpartition("/")[2]
    stem, dot, suffix = name.rpartition(".")
    return stem if dot and f".{suffix.lower()}" in IMAGE_SUFFIXES else name


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
    unnamed = sum(image.split != "test" and not _annotation(image).is_file() for image in images)
    if unnamed:
        logger.info(
            "VOC 2012: %d of %d images have no file in `Annotations`; their labels are the classes"
            " in their masks",
            unnamed,
            len(images),
        )
    write_dataset(output, CLASSES, _described(images, settings, output, processes, progress))


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
            " evaluated on must not be learnt from: remove it from one of them"
        )
    images = [
        _Image(name, split, devkit, mask=_mask(devkit / "SegmentationClass", name))
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


def _mask(folder: Path, name: str) -> Path:
    return with_suffix_of(folder / name, (".png",))


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
                yield _Image(name, "train_aug", devkit, mask=_mask(masks, name))
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


def _described(
    images: list[_Image],
    settings: Voc12DatasetSettings,
    output: Path,
    processes: int,
    progress: Progress | None,
) -> Iterator[Described]:
    with atomic_folder(output / "masks") as masks:
        describe = partial(_describe, difficult=settings.difficult, masks=masks)
        for done, row in enumerate(ordered_map(describe, images, processes), start=1):
            yield row
            if progress is not None:
                progress("images", done, len(images), "img")


def _annotation(image: _Image) -> Path:
    return image.devkit / "Annotations" / f"{image.id}.xml"


def _describe(image: _Image, difficult: bool, masks: Path) -> Described:
    """Make an image's row; convert its mask if it is SBD's."""
    path = with_suffix_of(image.devkit / "JPEGImages" / image.id, PHOTO_SUFFIXES)
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
        present = check_mask(read_mask(image.mask), size, len(CLASSES), image.mask, path)
        mask = str(image.mask.absolute())
    annotation = _annotation(image)
    if image.split == "test":
        names: tuple[str, ...] = ()
    elif annotation.is_file():
        names = labels_from_xml(annotation, difficult)
    else:
        names = tuple(CLASSES[number - 1] for number in present)
    row = IndexRow(image.id, str(path.absolute()), *size, image.split, names, mask)
    return Described(row, tuple(CLASSES[number - 1] for number in present) if mask else None)
