"""Miniature datasets in the exact formats of the real ones: layout, annotations and archives.

Each builder takes scenes (image and mask), made of shapes by `shapes` or given by the caller.
"""

import csv
import hashlib
import io
import json
import shutil
import tarfile
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple
from xml.sax.saxutils import escape

import numpy as np
from PIL import Image
from scipy.io import savemat

from tests.coco_categories import COCO_CATEGORIES
from workflow_scripts.datasets.kinds.voc12 import CLASSES as VOC_CLASSES
from workflow_scripts.storage.masks import IGNORE, encode_mask


class Scene(NamedTuple):
    """An image uint8[H, W, 3] and its mask uint8[H, W]: 0, class numbers, 255."""

    image: np.ndarray
    mask: np.ndarray

    @property
    def labels(self) -> list[int]:
        return [int(value) for value in np.unique(self.mask) if value not in (0, IGNORE)]


def shapes(
    count: int, classes: int = 3, size: tuple[int, int] = (64, 48), seed: int = 0
) -> list[Scene]:
    """Scenes of coloured discs on noise, `size` = (width, height); together they show every class."""
    rng = np.random.default_rng(seed)
    width, height = size
    rows, columns = np.mgrid[:height, :width]
    colours = rng.integers(40, 216, (classes + 1, 3))
    scenes = []
    for number in range(count):
        mask = np.zeros((height, width), np.uint8)
        shown = [label + 1 for label in range(number, classes, count)] or [number % classes + 1]
        if number % 3 == 0 and len(shown) < classes:
            shown.append(shown[-1] % classes + 1)
        for place, label in enumerate(shown):
            x = width * (place + 0.5) / len(shown) + rng.uniform(-2, 2)
            y = height / 2 + rng.uniform(-4, 4)
            radius = min(height, width / len(shown)) * rng.uniform(0.3, 0.45)
            mask[(columns - x) ** 2 + (rows - y) ** 2 < radius**2] = label
        image = colours[mask] + rng.normal(0, 12, (height, width, 3))
        scenes.append(Scene(np.clip(image, 0, 255).astype(np.uint8), mask))
    return scenes


def archive_settings(path: Path, address: str) -> dict[str, str]:
    """Settings of one archive, with its true checksum."""
    return {"address": address, "checksum": f"md5:{hashlib.md5(path.read_bytes()).hexdigest()}"}


def _jpeg(path: Path, image: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(image).save(path, quality=92)


def _tar(tree: Path, archive: Path, mode: str) -> Path:
    with tarfile.open(archive, mode) as tar:
        tar.add(tree, tree.name)
    return archive


def _zip(tree: Path, archive: Path) -> Path:
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as zipped:
        for path in sorted(tree.rglob("*")):
            zipped.write(path, path.relative_to(tree.parent))
    return archive


@dataclass(frozen=True)
class MiniVoc:
    """A miniature of VOC 2012 and SBD: folders, archives and the ids of every split."""

    root: Path
    sbd_root: Path
    trainval: Path
    sbd: Path
    test: Path
    train: list[str]
    val: list[str]
    train_aug: list[str]
    test_ids: list[str]
    scenes: dict[str, Scene]

    def files(self) -> dict[str, bytes]:
        """Archives by name, as a loopback server takes them."""
        return {path.name: path.read_bytes() for path in (self.trainval, self.sbd, self.test)}

    def settings(self, server: Any, folder: Path) -> dict[str, Any]:
        """`dataset:` of a configuration that fetches the archives from a loopback server."""
        return {
            "kind": "voc12",
            "trainval": archive_settings(self.trainval, server.address(self.trainval.name)),
            "sbd": archive_settings(self.sbd, server.address(self.sbd.name)),
            "download": {"folder": str(folder), "pause": 0},
        }


def build_voc(folder: Path, scenes: Sequence[Scene] | None = None) -> MiniVoc:
    """Build devkit, SBD and test archive of 14 scenes: 4 train, 3 val, 5 of SBD alone, 2 test.

    SBD also lists one image of VOC's train and one of its val, as the real one does. Objects have an
    ignored border; the last image of train has no XML annotation; the first object of the second
    training image is difficult.
    """
    scenes = list(scenes or shapes(14))
    ids = [f"{2007 + i % 6}_{i * 37 % 1000:06d}" for i in range(len(scenes))]
    by_id = dict(zip(ids, scenes, strict=True))
    train, val, extra, test = ids[:4], ids[4:7], ids[7:12], ids[12:]
    root = folder / "VOCdevkit" / "VOC2012"
    for image_id in train + val + extra:
        _jpeg(root / "JPEGImages" / f"{image_id}.jpg", by_id[image_id].image)
        if image_id != train[-1]:
            _write_xml(root, image_id, by_id[image_id], difficult=image_id == train[1])
    (root / "SegmentationClass").mkdir()
    for image_id in train + val:
        (root / "SegmentationClass" / f"{image_id}.png").write_bytes(
            encode_mask(_bordered(by_id[image_id].mask))
        )
    _write_lists(
        root / "ImageSets" / "Segmentation", train=train, val=val, trainval=sorted(train + val)
    )
    (root / "ImageSets" / "Main").mkdir()
    sbd_root = folder / "benchmark_RELEASE" / "dataset"
    (sbd_root / "cls").mkdir(parents=True)
    listed = [*extra, train[0], val[0]]
    for image_id in listed:
        _write_mat(sbd_root / "cls" / f"{image_id}.mat", by_id[image_id])
        _jpeg(sbd_root / "img" / f"{image_id}.jpg", by_id[image_id].image)
    _write_lists(sbd_root, train=listed[:4], val=listed[4:])
    trainval_tar = _tar(folder / "VOCdevkit", folder / "VOCtrainval_11-May-2012.tar", "w")
    test_root = folder / "test" / "VOCdevkit" / "VOC2012"
    for image_id in test:
        _jpeg(test_root / "JPEGImages" / f"{image_id}.jpg", by_id[image_id].image)
    _write_lists(test_root / "ImageSets" / "Segmentation", test=test)
    return MiniVoc(
        root=root,
        sbd_root=sbd_root,
        trainval=trainval_tar,
        sbd=_tar(folder / "benchmark_RELEASE", folder / "benchmark.tgz", "w:gz"),
        test=_tar(folder / "test" / "VOCdevkit", folder / "VOC2012test.tar", "w"),
        train=train,
        val=val,
        train_aug=sorted(extra),
        test_ids=test,
        scenes=by_id,
    )


def _bordered(mask: np.ndarray) -> np.ndarray:
    """Return a mask whose borders between regions are ignored, as VOC's are."""
    border = np.zeros(mask.shape, bool)
    border[:, 1:] |= mask[:, 1:] != mask[:, :-1]
    border[1:] |= mask[1:] != mask[:-1]
    return np.where(border, IGNORE, mask).astype(np.uint8)


def _write_lists(folder: Path, **lists: list[str]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, ids in lists.items():
        (folder / f"{name}.txt").write_text("".join(f"{image_id}\n" for image_id in ids))


def _write_xml(root: Path, image_id: str, scene: Scene, difficult: bool) -> None:
    height, width = scene.mask.shape
    objects = []
    for place, label in enumerate(scene.labels):
        rows, columns = np.nonzero(scene.mask == label)
        box = (
            f"<bndbox><xmin>{columns.min() + 1}</xmin><ymin>{rows.min() + 1}</ymin>"
            f"<xmax>{columns.max() + 1}</xmax><ymax>{rows.max() + 1}</ymax></bndbox>"
        )
        objects.append(
            f"<object><name>{escape(VOC_CLASSES[label - 1])}</name><pose>Left</pose>"
            f"<truncated>0</truncated><difficult>{int(difficult and place == 0)}</difficult>"
            f"{box}<part><name>head</name>{box}</part></object>"
        )
    path = root / "Annotations" / f"{image_id}.xml"
    path.parent.mkdir(exist_ok=True)
    path.write_text(
        f"<annotation><folder>VOC2012</folder><filename>{image_id}.jpg</filename>"
        "<source><database>The VOC2007 Database</database></source>"
        f"<size><width>{width}</width><height>{height}</height><depth>3</depth></size>"
        f"<segmented>1</segmented>{''.join(objects)}</annotation>\n"
    )


def _write_mat(path: Path, scene: Scene) -> None:
    """SBD's format: a struct GTcls with Segmentation, Boundaries (one cell a class), CategoriesPresent."""
    boundaries = np.empty((20, 1), object)
    for number in range(20):
        boundaries[number, 0] = (_bordered(scene.mask) == IGNORE) & (scene.mask == number + 1)
    savemat(
        path,
        {
            "GTcls": {
                "Boundaries": boundaries,
                "Segmentation": scene.mask,
                "CategoriesPresent": np.array(scene.labels, np.uint8)[:, None],
            }
        },
        do_compression=True,
    )


@dataclass(frozen=True)
class MiniCoco:
    """A miniature of COCO 2014: a folder as `root` expects it, and the three archives."""

    root: Path
    train_images: Path
    val_images: Path
    annotations: Path
    scenes: dict[str, Scene]

    def files(self) -> dict[str, bytes]:
        """Archives by name, as a loopback server takes them."""
        archives = (self.train_images, self.val_images, self.annotations)
        return {path.name: path.read_bytes() for path in archives}

    def settings(self, server: Any, folder: Path) -> dict[str, Any]:
        """`dataset:` of a configuration that fetches the archives from a loopback server."""
        settings: dict[str, Any] = {"kind": "coco14"}
        for name in ("train_images", "val_images", "annotations"):
            path = getattr(self, name)
            settings[name] = archive_settings(path, server.address(path.name))
        return settings | {"download": {"folder": str(folder), "pause": 0}}


def build_coco(folder: Path, scenes: Sequence[Scene] | None = None) -> MiniCoco:
    """Build images and annotations of 12 scenes: 8 train, 4 val, all 80 categories listed.

    In each split the last image has no annotation at all, whatever it shows.
    """
    scenes = list(scenes or shapes(12))
    cut = len(scenes) * 2 // 3
    by_id = {}
    root = folder / "coco"
    for split, chosen in (("train", scenes[:cut]), ("val", scenes[cut:])):
        images, annotations = [], []
        for position, scene in enumerate(chosen):
            number = 9 + 16 * position + (42 if split == "val" else 0)
            name = f"COCO_{split}2014_{number:012d}"
            by_id[name] = scene
            _jpeg(root / f"{split}2014" / f"{name}.jpg", scene.image)
            height, width = scene.mask.shape
            images.append(
                {
                    "license": 5,
                    "file_name": f"{name}.jpg",
                    "coco_url": f"http://images.cocodataset.org/{split}2014/{name}.jpg",
                    "height": height,
                    "width": width,
                    "date_captured": "2013-11-14 11:18:45",
                    "id": number,
                }
            )
            if position + 1 < len(chosen):
                annotations += _coco_objects(scene, number, first_id=1000 * (position + 1))
        _write_coco(root / "annotations" / f"instances_{split}2014.json", images, annotations)
    return MiniCoco(
        root=root,
        train_images=_zip(root / "train2014", folder / "train2014.zip"),
        val_images=_zip(root / "val2014", folder / "val2014.zip"),
        annotations=_zip(root / "annotations", folder / "annotations_trainval2014.zip"),
        scenes=by_id,
    )


def _coco_objects(scene: Scene, image: int, first_id: int) -> list[dict[str, Any]]:
    """One annotation a class, its region as one rectangle a row of pixels."""
    found = []
    for offset, label in enumerate(scene.labels):
        region = scene.mask == label
        rows, columns = np.nonzero(region)
        polygons = []
        for row in np.unique(rows):
            steps = np.diff(np.pad(region[row].astype(int), 1))
            for left, right in zip(
                np.flatnonzero(steps == 1), np.flatnonzero(steps == -1), strict=True
            ):
                corners = (left, row, right, row, right, row + 1, left, row + 1)
                polygons.append([float(value) for value in corners])
        found.append(
            {
                "segmentation": polygons,
                "area": float(region.sum()),
                "iscrowd": 0,
                "image_id": image,
                "bbox": [
                    float(columns.min()),
                    float(rows.min()),
                    float(np.ptp(columns) + 1),
                    float(np.ptp(rows) + 1),
                ],
                "category_id": COCO_CATEGORIES[label - 1][0],
                "id": first_id + offset,
            }
        )
    return found


def _write_coco(
    path: Path, images: list[dict[str, Any]], annotations: list[dict[str, Any]]
) -> None:
    path.parent.mkdir(exist_ok=True)
    document = {
        "info": {"description": "COCO 2014 Dataset", "version": "1.0", "year": 2014},
        "images": images,
        "licenses": [{"url": "http://creativecommons.org", "id": 5, "name": "Attribution"}],
        "annotations": annotations,
        "categories": [
            {"supercategory": "thing", "id": number, "name": name}
            for number, name in COCO_CATEGORIES
        ],
    }
    path.write_text(json.dumps(document))


@dataclass(frozen=True)
class MiniFolder:
    """A folder dataset: its root, its classes, and scene by name of the image."""

    root: Path
    classes: list[str]
    scenes: dict[str, Scene]


def build_folder(
    root: Path,
    count: int = 30,
    classes: int = 3,
    masks: bool = True,
    split: bool = False,
    seed: int = 0,
) -> MiniFolder:
    """Build `images/`, `labels.csv` and `masks/` with names and formats of every kind.

    Names hold spaces, dots, commas and letters outside ASCII; two images share a stem, one lies in a
    folder of its own. Formats are JPEG (plain, grey, CMYK, rotated by EXIF), PNG (colour, grey, RGBA)
    and WebP.
    """
    names = [f"class {i:03d} ä" for i in range(1, classes + 1)]
    by_name: dict[str, Scene] = {}
    rows = []
    for number, scene in enumerate(shapes(count, classes, seed=seed)):
        name, data = _encoded(number, scene)
        path = root / "images" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        by_name[name] = scene
        row = [name, ";".join(names[label - 1] for label in scene.labels)]
        rows.append([*row, "val" if number % 5 == 4 else "train"] if split else row)
        if masks:
            # The two images that share a stem need the long form.
            mask = (
                root
                / "masks"
                / (f"{name}.png" if number < 2 else str(Path(name).with_suffix(".png")))
            )
            mask.parent.mkdir(parents=True, exist_ok=True)
            mask.write_bytes(encode_mask(scene.mask))
    with (root / "labels.csv").open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream)
        writer.writerow(["image", "labels", *(["split"] if split else [])])
        writer.writerows(rows)
    return MiniFolder(root, names, by_name)


def _encoded(number: int, scene: Scene) -> tuple[str, bytes]:
    """Name and content of an image file: its format goes round with its number."""
    image = Image.fromarray(scene.image)
    buffer = io.BytesIO()
    if number < 2:
        kind = ("JPEG", "PNG")[number]
        image.save(buffer, kind)
        return f"same stem{'.jpg' if number == 0 else '.png'}", buffer.getvalue()
    name = (
        f"photo {number}",
        f"v1.{number}.final",
        f"übung_{number}, Größe",
        f"猫{number}",
        f"sub folder/é {number}",
    )[number % 5]
    turn = number % 7
    if turn == 0:
        image.save(buffer, "JPEG", quality=92)
        return f"{name}.jpg", buffer.getvalue()
    if turn == 1:
        image.convert("L").save(buffer, "JPEG")
        return f"{name}.jpeg", buffer.getvalue()
    if turn == 2:
        image.convert("CMYK").save(buffer, "JPEG")
        return f"{name}.JPG", buffer.getvalue()
    if turn == 3:
        exif = Image.Exif()
        exif[0x0112] = 6  # to be turned by 90° clockwise when shown
        image.transpose(Image.Transpose.ROTATE_90).save(buffer, "JPEG", exif=exif)
        return f"{name}.jpg", buffer.getvalue()
    if turn == 4:
        rgba = image.convert("RGBA")
        rgba.putalpha(Image.fromarray(np.full(scene.mask.shape, 200, np.uint8)))
        rgba.save(buffer, "PNG")
        return f"{name}.png", buffer.getvalue()
    if turn == 5:
        image.convert("L").save(buffer, "PNG")
        return f"{name}.png", buffer.getvalue()
    image.save(buffer, "WEBP", quality=90)
    return f"{name}.webp", buffer.getvalue()


def without_masks(dataset: Path) -> None:
    """Remove the ground truth of a folder dataset."""
    shutil.rmtree(dataset / "masks")
