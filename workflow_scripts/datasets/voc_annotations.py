"""What PASCAL VOC and the Semantic Boundaries Dataset (SBD) say about an image."""

import xml.etree.ElementTree as ElementTree
from pathlib import Path

import numpy as np
from scipy.io import loadmat

from workflow_scripts.errors import InputError

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
    except (OSError, ElementTree.ParseError) as error:
        raise InputError(f"{path}: not a readable annotation ({error})") from error
    found = set()
    for thing in root.findall("object"):
        name = (thing.findtext("name") or "").strip()
        if name not in CLASSES:
            raise InputError(f"{path}: the object {name!r} is none of VOC's 20 classes")
        if difficult or (thing.findtext("difficult") or "0").strip() != "1":
            found.add(name)
    return tuple(name for name in CLASSES if name in found)


def mask_from_sbd(path: Path) -> np.ndarray:
    """Return the class mask uint8[H, W] of a file of SBD's folder `cls`.

    SBD has no ignored border: values are 0 to 20.

    Raises:
        InputError: The file is missing, damaged or has no segmentation.
    """
    try:
        # Opened here: loadmat adds a suffix to names, and says "no such file" of damaged ones.
        with path.open("rb") as stream:
            mask = np.asarray(loadmat(stream)["GTcls"][0]["Segmentation"][0])
    except FileNotFoundError:
        raise InputError(f"{path}: no such file; SBD is incomplete") from None
    except Exception as error:  # scipy raises almost anything on damaged files
        raise InputError(f"{path}: not a readable segmentation of SBD ({error})") from error
    if mask.ndim != 2 or mask.dtype != np.uint8:
        raise InputError(f"{path}: the segmentation is {mask.dtype}{list(mask.shape)}, not 8-bit")
    return mask


def read_list(path: Path) -> list[str]:
    """Return the image ids in a list of a devkit, in its order.

    A line may hold an id or, in lists that are passed around, paths of image and mask.

    Raises:
        InputError: The list is missing or names an image twice.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(
            f"{path}: the list of images cannot be read ({error}). The folder given as `root` or"
            " `sbd_root` is not the one that was expected, or is incomplete."
        ) from error
    ids = [_image_id(words[0]) for line in lines if (words := line.split())]
    if len(set(ids)) < len(ids):
        double = next(name for name in ids if ids.count(name) > 1)
        raise InputError(f"{path}: image {double!r} is listed twice; remove one of the lines")
    return ids


def _image_id(word: str) -> str:
    name = word.rpartition("/")[2]
    return name.removesuffix(".jpg").removesuffix(".png")
