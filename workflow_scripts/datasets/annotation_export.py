"""Masks in the layouts that annotation tools open: PASCAL VOC's folders and COCO's JSON (RLE)."""

import io
import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from pycocotools import mask as rle

from workflow_scripts.datasets.files import file_path
from workflow_scripts.datasets.images import is_upright, opened_image
from workflow_scripts.datasets.result_folder import ResultFolder
from workflow_scripts.storage.atomic import atomic_path
from workflow_scripts.storage.masks import IGNORE, encode_mask

_QUALITY = 95
_NAMES, _COCO = Path("labels.txt"), Path("annotations.json")


def _image(image_id: str) -> Path:
    return file_path(f"JPEGImages/{image_id}.jpg")


def _mask(image_id: str) -> Path:
    return file_path(f"SegmentationClass/{image_id}.png")


def _as_jpeg(source: Path, image: np.ndarray, target: Path) -> None:
    """Copy an upright JPEG file as it is; write any other image as JPEG."""
    with opened_image(source) as opened:
        as_it_is = opened.format == "JPEG" and is_upright(opened)
    with atomic_path(target) as temporary:
        if as_it_is:
            shutil.copyfile(source, temporary)
            return
        buffer = io.BytesIO()
        Image.fromarray(image).save(buffer, format="JPEG", quality=_QUALITY)
        temporary.write_bytes(buffer.getvalue())


class AnnotationWriter:
    """Collects the masks of images and writes them in both layouts.

    VOC: JPEGImages/, SegmentationClass/, ImageSets/Segmentation/{split}.txt, and the names of the
    classes in labels.txt, `__background__` first. COCO: annotations.json, one run-length encoded
    annotation a class and image; category i is class i.
    """

    def __init__(
        self,
        folder: Path,
        classes: Sequence[str],
        ids: Sequence[str],
        split: str = "pseudo",
        *,
        replaces: bool = True,
    ) -> None:
        """Claim the files.

        Args:
            folder: Where to write.
            classes: Names of the classes, in order.
            ids: Ids of all images that may be added.
            split: Name of the list of images.
            replaces: Whether masks of other images that an earlier run wrote may be removed.

        Raises:
            InputError: As `ResultFolder`.
        """
        self.classes = tuple(classes)
        self._list = Path("ImageSets", "Segmentation", f"{split}.txt")
        planned = [self._list, _NAMES, _COCO, *map(_image, ids), *map(_mask, ids)]
        self._results = ResultFolder(folder, "label", planned, replaces=replaces)
        self._ids: list[str] = []
        self._images: list[dict[str, Any]] = []
        self._annotations: list[dict[str, Any]] = []

    def write(
        self, image_id: str, name: str, source: Path, image: np.ndarray, mask: np.ndarray
    ) -> None:
        """Add an image.

        Args:
            image_id: Name of its files in VOC's layout.
            name: Its path below the folder of images, which COCO's `file_name` says.
            source: The file.
            image: uint8 [H, W, 3].
            mask: uint8 [H, W], 0 background, i the i-th class.
        """
        _as_jpeg(source, image, self._results.path(_image(image_id)))
        with atomic_path(self._results.path(_mask(image_id))) as temporary:
            temporary.write_bytes(encode_mask(mask))
        self._ids.append(image_id)
        number = len(self._ids)
        height, width = mask.shape
        self._images.append({"id": number, "file_name": name, "width": width, "height": height})
        for label in np.unique(mask):
            if label not in (0, IGNORE):
                self._annotations.append(self._annotation(number, int(label), mask == label))

    def _annotation(self, image: int, label: int, region: np.ndarray) -> dict[str, Any]:
        encoded = rle.encode(np.asfortranarray(region.astype(np.uint8)))
        return {
            "id": len(self._annotations) + 1,
            "image_id": image,
            "category_id": label,
            "segmentation": {"size": encoded["size"], "counts": encoded["counts"].decode("ascii")},
            "area": int(region.sum()),
            "bbox": rle.toBbox(encoded).tolist(),
            "iscrowd": 0,
        }

    def finish(self) -> None:
        """Write the lists and the COCO file, and remove what an earlier run wrote and this one did not."""
        names = ("__background__", *self.classes)
        content = {
            "info": {"description": "Pseudo-masks from image labels; not made by hand"},
            "images": self._images,
            "annotations": self._annotations,
            "categories": [
                {"id": number, "name": name, "supercategory": ""}
                for number, name in enumerate(self.classes, start=1)
            ],
        }
        for path, text in (
            (self._list, "".join(f"{image_id}\n" for image_id in self._ids)),
            (_NAMES, "".join(f"{name}\n" for name in names)),
            (_COCO, json.dumps(content, ensure_ascii=False) + "\n"),
        ):
            with atomic_path(self._results.path(path)) as temporary:
                temporary.write_text(text, encoding="utf-8")
        self._results.finish()
