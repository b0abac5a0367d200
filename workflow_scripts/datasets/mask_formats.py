"""Masks in the layouts of annotation tools, written and, where a tool has a layout of its own, read back.

- `masks`: an indexed PNG for each image, in VOC's palette; read: whatever `read_mask` reads.
- `cvat`: CVAT's and Datumaro's "Segmentation mask 1.1": SegmentationClass/ in colours, labelmap.txt, lists.
- `labelme`: a JSON file for each image, with a shape of the type `mask` for each class.
- `label_studio`: tasks with brush strokes as pre-annotations, one JSON file.
- `ultralytics`: images/ left to the user, masks/ with class indices and data.yaml.

Pixels that do not count (255) are a label `ignored` where a tool has no number for them; background is black
or unlabelled. Names of masks are paths without suffix, so that folders stay.
"""

import base64
import io
import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any, ClassVar

import numpy as np
import yaml
from PIL import Image

from workflow_scripts.datasets.brush_rle import decode_brush, encode_brush
from workflow_scripts.datasets.files import file_path
from workflow_scripts.datasets.label_map import NAME as LABEL_MAP
from workflow_scripts.datasets.result_folder import ResultFolder
from workflow_scripts.errors import InputError
from workflow_scripts.storage.atomic import atomic_path
from workflow_scripts.storage.masks import IGNORE, encode_mask, voc_palette

# Lists in each folder what the command wrote there, `{COMMAND}.json`.
COMMAND = "convert_masks"
IGNORED, BACKGROUND = "ignored", "background"
Read = dict[str, Callable[[], np.ndarray]]


class MaskFormat(ABC):
    """A layout; one instance writes one folder.

    Attributes:
        name: How a user asks for it.
        photographs: Folder in which the tool looks for the photographs.
        classes: Names of the classes, in order.
    """

    name: ClassVar[str]
    photographs: ClassVar[str] = "images"

    def __init__(self, classes: Sequence[str]) -> None:
        self.classes = tuple(classes)

    @abstractmethod
    def files(self, names: Sequence[str]) -> list[Path]:
        """All files that the masks of these names may make."""

    @abstractmethod
    def write(self, results: ResultFolder, name: str, image: str, mask: np.ndarray) -> None:
        """Write a mask.

        Args:
            results: The folder.
            name: The mask's name.
            image: File name of its photograph.
            mask: uint8 [H, W], 0 background, i the i-th class, 255 ignored.
        """

    def finish(self, results: ResultFolder) -> None:
        """Write what belongs to all masks together; nothing by default."""
        return

    def label(self, value: int) -> str:
        """What a tool calls a value of a mask."""
        return IGNORED if value == IGNORE else self.classes[value - 1]

    def number(self, label: object, where: Path | str) -> int:
        """The value of a tool's label; InputError where it is no class."""
        if label in self.classes:
            return self.classes.index(str(label)) + 1
        known = {BACKGROUND: 0, IGNORED: IGNORE}
        if label in known:
            return known[str(label)]
        raise InputError(
            f"{where}: the label {label!r} is no class; expected one of {', '.join(self.classes)}. Correct"
            " it in the tool, or give the list of classes that the masks were made with."
        )


def _put(results: ResultFolder, path: Path, content: bytes | str) -> None:
    with atomic_path(results.path(path)) as temporary:
        temporary.write_bytes(content.encode() if isinstance(content, str) else content)


class IndexedMasks(MaskFormat):
    """PNG files, as a dataset's folder of masks holds them."""

    name = "masks"

    def files(self, names: Sequence[str]) -> list[Path]:
        """See `MaskFormat`."""
        return [file_path(f"{name}.png") for name in names]

    def write(self, results: ResultFolder, name: str, image: str, mask: np.ndarray) -> None:
        """See `MaskFormat`."""
        _put(results, file_path(f"{name}.png"), encode_mask(mask))


class CvatMasks(MaskFormat):
    """Segmentation mask 1.1; the project needs the classes and, where masks have 255, a label `ignored`."""

    name = "cvat"
    photographs = "JPEGImages"
    _list = Path("ImageSets/Segmentation/default.txt")

    def __init__(self, classes: Sequence[str]) -> None:
        super().__init__(classes)
        self._names: list[str] = []
        self._ignored = False

    def files(self, names: Sequence[str]) -> list[Path]:
        """See `MaskFormat`."""
        masks = [file_path(f"SegmentationClass/{name}.png") for name in names]
        return [Path(LABEL_MAP), self._list, *masks]

    def write(self, results: ResultFolder, name: str, image: str, mask: np.ndarray) -> None:
        """See `MaskFormat`."""
        buffer = io.BytesIO()
        Image.fromarray(voc_palette()[mask]).save(buffer, format="PNG")
        _put(results, file_path(f"SegmentationClass/{name}.png"), buffer.getvalue())
        self._names.append(name)
        self._ignored = self._ignored or bool((mask == IGNORE).any())

    def finish(self, results: ResultFolder) -> None:
        """See `MaskFormat`."""
        colours = voc_palette().tolist()
        entries = [(BACKGROUND, colours[0])]
        entries += list(zip(self.classes, colours[1:], strict=False))
        entries += [(IGNORED, colours[IGNORE])] if self._ignored else []
        lines = ["# label:color_rgb:parts:actions"]
        lines += [f"{label}:{','.join(map(str, colour))}::" for label, colour in entries]
        _put(results, Path(LABEL_MAP), "\n".join(lines) + "\n")
        _put(results, self._list, "".join(f"{name}\n" for name in self._names))


class LabelmeMasks(MaskFormat):
    """JSON files of labelme 5.2 and later, to lie beside the photographs."""

    name = "labelme"
    photographs = ""

    def files(self, names: Sequence[str]) -> list[Path]:
        """See `MaskFormat`."""
        return [file_path(f"{name}.json") for name in names]

    def write(self, results: ResultFolder, name: str, image: str, mask: np.ndarray) -> None:
        """See `MaskFormat`."""
        shapes = [self._shape(mask == v, self.label(v)) for v in np.unique(mask).tolist() if v]
        content = {
            "version": "5.5.0",
            "flags": {},
            "shapes": shapes,
            "imagePath": PurePosixPath(image).name,
            "imageData": None,
            "imageHeight": mask.shape[0],
            "imageWidth": mask.shape[1],
        }
        _put(results, file_path(f"{name}.json"), json.dumps(content, ensure_ascii=False))

    @staticmethod
    def _shape(region: np.ndarray, label: str) -> dict[str, Any]:
        """A region in its box, whose corners are pixels that belong to it."""
        rows, columns = (np.flatnonzero(region.any(axis=axis)) for axis in (1, 0))
        top, bottom, left, right = (int(v) for v in (rows[0], rows[-1], columns[0], columns[-1]))
        buffer = io.BytesIO()
        part = region[top : bottom + 1, left : right + 1].astype(np.uint8)
        Image.fromarray(part).save(buffer, format="PNG")
        return {
            "label": label,
            "points": [[left, top], [right, bottom]],
            "group_id": None,
            "description": "",
            "shape_type": "mask",
            "flags": {},
            "mask": base64.b64encode(buffer.getvalue()).decode("ascii"),
        }

    def read(self, folder: Path) -> Read:
        """What reads each mask of a folder of such files, by name."""
        names = {
            path.relative_to(folder).with_suffix("").as_posix(): path
            for path in _json_files(folder.rglob("*.json"))
        }
        return {name: partial(self._mask, path) for name, path in names.items()}

    def _mask(self, path: Path) -> np.ndarray:
        """A mask of the shapes of a file: later ones lie over earlier ones."""
        content = _json(path)
        try:
            mask = np.zeros((int(content["imageHeight"]), int(content["imageWidth"])), np.uint8)
            for shape in content["shapes"]:
                number = self.number(shape["label"], path)
                if shape["shape_type"] != "mask":
                    raise InputError(
                        f"{path}: a shape of the type {shape['shape_type']!r}; expected `mask`. Convert"
                        " the file by labelme's own `labelme_json_to_dataset`, or draw it as a mask."
                    )
                (left, top), _ = shape["points"]
                with Image.open(io.BytesIO(base64.b64decode(shape["mask"]))) as image:
                    region = np.array(image) > 0
                box = mask[int(top) :, int(left) :][: region.shape[0], : region.shape[1]]
                box[region[: box.shape[0], : box.shape[1]]] = number
        except (IndexError, KeyError, TypeError, ValueError, OSError) as error:
            raise InputError(
                f"{path}: not a file of labelme with masks ({error!r}); expected `imageHeight`,"
                " `imageWidth` and `shapes`"
            ) from error
        return mask


class LabelStudioMasks(MaskFormat):
    """Tasks with predictions, for a set-up with `<Image name="image">` and `<BrushLabels name="tag">`."""

    name = "label_studio"
    photographs = ""
    _tasks = Path("tasks.json")

    def __init__(self, classes: Sequence[str]) -> None:
        super().__init__(classes)
        self._written: list[dict[str, Any]] = []

    def files(self, names: Sequence[str]) -> list[Path]:
        """See `MaskFormat`."""
        return [self._tasks]

    def write(self, results: ResultFolder, name: str, image: str, mask: np.ndarray) -> None:
        """See `MaskFormat`."""
        regions = [
            {
                "id": f"{len(self._written)}-{value}",
                "type": "brushlabels",
                "from_name": "tag",
                "to_name": "image",
                "image_rotation": 0,
                "original_height": mask.shape[0],
                "original_width": mask.shape[1],
                "value": {
                    "format": "rle",
                    "rle": encode_brush(mask == value),
                    "brushlabels": [self.label(value)],
                },
            }
            for value in np.unique(mask).tolist()
            if value
        ]
        size = {"height": mask.shape[0], "width": mask.shape[1]}
        self._written.append({
            "data": {"image": f"/data/local-files/?d={image}", "name": name, **size},
            "predictions": [{"model_version": "pseudo-masks", "result": regions}],
        })  # fmt: skip

    def finish(self, results: ResultFolder) -> None:
        """See `MaskFormat`."""
        _put(results, self._tasks, json.dumps(self._written, ensure_ascii=False))

    def read(self, folder: Path) -> Read:
        """What reads each mask of an export: a JSON file, or a folder with one."""
        paths = [folder] if folder.is_file() else _json_files(folder.glob("*.json"))
        masks: Read = {}
        for path in paths:
            tasks = _json(path)
            if not isinstance(tasks, list) or not all(
                isinstance(task, dict) and isinstance(task.get("data"), dict) for task in tasks
            ):
                raise InputError(f"{path}: not an export of Label Studio; expected a list of tasks")
            for task in tasks:
                _, local, place = str(task["data"].get("image", "")).rpartition("?d=")
                # Of what was uploaded the address says a folder of the tool's own.
                image = PurePosixPath(place if local else PurePosixPath(place).name)
                name = str(task["data"].get("name") or image.with_suffix(""))
                if name in masks:
                    raise InputError(f"{path}: two tasks for {name!r}; remove one")
                masks[name] = partial(self._mask, task, path)
        return masks

    def _mask(self, task: dict[str, Any], path: Path) -> np.ndarray:
        """A mask of a task's annotation, else of its prediction: later strokes lie over earlier ones."""
        try:
            sources = [one for one in task.get("annotations") or () if not one.get("was_cancelled")]
            results = (sources or task.get("predictions") or [{"result": []}])[-1]["result"]
            size = {(int(r["original_height"]), int(r["original_width"])) for r in results}
            if not size:
                size = {(int(task["data"]["height"]), int(task["data"]["width"]))}
            [(height, width)] = size
            mask = np.zeros((height, width), np.uint8)
            for result in results:
                if result["type"] == "brushlabels":
                    number = self.number(result["value"]["brushlabels"][0], path)
                    mask[decode_brush(result["value"]["rle"], height, width)] = number
        except (KeyError, TypeError, ValueError, IndexError) as error:
            raise InputError(
                f"{path}: task {task['data'].get('image')}: no brush strokes that can be read ({error!r});"
                " export the project as JSON"
            ) from error
        return mask


class UltralyticsMasks(MaskFormat):
    """Class indices for YOLO's semantic segmentation: index 0 is the background, 255 does not count."""

    name = "ultralytics"
    _settings = Path("data.yaml")

    def files(self, names: Sequence[str]) -> list[Path]:
        """See `MaskFormat`."""
        return [self._settings, *(file_path(f"masks/{name}.png") for name in names)]

    def write(self, results: ResultFolder, name: str, image: str, mask: np.ndarray) -> None:
        """See `MaskFormat`."""
        buffer = io.BytesIO()
        Image.fromarray(mask).save(buffer, format="PNG")
        _put(results, file_path(f"masks/{name}.png"), buffer.getvalue())

    def finish(self, results: ResultFolder) -> None:
        """See `MaskFormat`."""
        names = dict(enumerate((BACKGROUND, *self.classes)))
        content = {
            "path": ".",
            "train": "images",
            "val": "images",
            "masks_dir": "masks",
            "names": names,
        }
        text = yaml.safe_dump(content, sort_keys=False, allow_unicode=True)
        _put(results, self._settings, text)


FORMATS: dict[str, type[MaskFormat]] = {
    kind.name: kind
    for kind in (IndexedMasks, CvatMasks, LabelmeMasks, LabelStudioMasks, UltralyticsMasks)
}
READABLE = (LabelmeMasks, LabelStudioMasks)


def readers(
    kind: str, classes: Sequence[str], folder: Path
) -> Iterator[tuple[str, Callable[[], np.ndarray]]]:
    """Yield the name of each mask of a tool's own layout, and what reads it.

    Raises:
        InputError: There is none.
    """
    [entry] = [one for one in READABLE if one.name == kind]
    found = entry(classes).read(folder)
    if not found:
        raise InputError(
            f"{folder}: holds no masks of {kind}; give the folder of the tool's export"
        )
    yield from found.items()


def _json_files(found: Iterable[Path]) -> list[Path]:
    """Those that a tool may have written, in order."""
    return sorted(p for p in found if p.name != f"{COMMAND}.json" and not p.name.startswith("."))


def _json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: not a readable JSON file ({error}); export it again") from error
