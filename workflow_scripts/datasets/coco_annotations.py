"""COCO's instance annotations: what they list, and the masks they describe.

The annotations are half a gigabyte of JSON, several gigabytes as Python objects. Here only one exists at a
time, and its place in the file is kept, so that a worker can read it again. (ijson tells no places.)
"""

import json
from array import array
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from pycocotools import mask as rle

from workflow_scripts.datasets.run_lengths import runs_of
from workflow_scripts.errors import InputError
from workflow_scripts.storage.masks import IGNORE

CHUNK = 1 << 22
_SPACE = " \t\r\n"
_BYTE_ORDER_MARK = "\xef\xbb\xbf"  # UTF-8's, read as Latin-1
_LEAST_POLYGON = 6  # x and y of three corners
_FAR = 10  # in widths and heights of the image


Identifier = int | str


class Item(NamedTuple):
    """An item of the array `key`; bytes `start` to `end` of the file hold it."""

    key: str
    value: Any
    start: int
    end: int


def items(path: Path, keys: Collection[str]) -> Iterator[Item]:
    """Yield the items of those top-level arrays whose key is in `keys`, in the file's order.

    The file is read as Latin-1, in which bytes and characters correspond and JSON's structure is the
    same: text outside ASCII must be read again, as UTF-8, from its bytes.

    Raises:
        InputError: The file is missing, truncated or no JSON object.
    """
    try:
        with path.open(encoding="latin-1", newline="") as stream:
            yield from _Reader(stream).members(keys)
    except OSError as error:
        raise InputError(
            f"{path}: cannot be read ({error.strerror}); extract the annotations' archive anew"
        ) from error
    except (ValueError, RecursionError) as error:
        raise InputError(
            f"{path}: not a complete JSON object ({error}); extract the annotations' archive anew"
        ) from error


def read_again(path: Path, start: int, end: int) -> Any:
    """Return the value that lies at these bytes of a file; InputError if it is not in UTF-8."""
    with path.open("rb") as stream:
        stream.seek(start)
        try:
            return json.loads(stream.read(end - start))
        except ValueError as error:
            raise InputError(
                f"{path}, byte {start}: not JSON in UTF-8 ({error}); save it in UTF-8"
            ) from error


class _Reader:
    """A window on the text that moves forward: `text[at:]` is what has not been consumed."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream
        self._text = ""
        self._at = 0
        self._dropped = 0
        self._ended = False
        self._decode = json.JSONDecoder().raw_decode

    def members(self, keys: Collection[str]) -> Iterator[Item]:
        if self._next_character() == _BYTE_ORDER_MARK[0]:
            self._expect(_BYTE_ORDER_MARK)
        self._expect("{")
        if self._skip_if("}"):
            return
        while True:
            key, _, _ = self._value()
            self._expect(":")
            if key in keys and self._skip_if("["):
                yield from self._array(key)
            else:
                self._value()
            if self._skip_if("}"):
                return
            self._expect(",")

    def _array(self, key: str) -> Iterator[Item]:
        if self._skip_if("]"):
            return
        while True:
            value, start, end = self._value()
            yield Item(key, value, start, end)
            if self._skip_if("]"):
                return
            self._expect(",")

    def _value(self) -> tuple[Any, int, int]:
        """Decode the next value, and give its place in the file."""
        self._next_character()
        while True:
            try:
                value, end = self._decode(self._text, self._at)
            except ValueError:
                if self._ended:
                    raise
            else:
                # A number at the end of the window may go on behind it.
                if end < len(self._text) or self._ended:
                    start, self._at = self._at, end
                    return value, self._dropped + start, self._dropped + end
            self._read_more()

    def _next_character(self) -> str:
        """Skip white space; "" at the end of the file."""
        while True:
            while self._at < len(self._text) and self._text[self._at] in _SPACE:
                self._at += 1
            if self._at < len(self._text):
                return self._text[self._at]
            if self._ended:
                return ""
            self._read_more()

    def _skip_if(self, characters: str) -> bool:
        if not self._next_character() or not self._text.startswith(characters, self._at):
            return False
        self._at += len(characters)
        return True

    def _expect(self, character: str) -> None:
        if not self._skip_if(character):
            place = self._dropped + self._at
            found = self._next_character() or "the end of the file"
            raise ValueError(f"expected {character!r} at byte {place}, found {found!r}")

    def _read_more(self) -> None:
        more = self._stream.read(CHUNK)
        self._ended = not more
        self._text = self._text[self._at :] + more
        self._dropped += self._at
        self._at = 0


@dataclass(frozen=True, slots=True)
class CocoImage:
    """An image of an annotation file; `spans` are the bytes in which its annotations lie."""

    name: str
    width: int
    height: int
    spans: tuple[tuple[int, int], ...]


@dataclass(frozen=True, slots=True)
class CocoFile:
    """What an annotation file lists.

    Attributes:
        path: The file.
        classes: Names of the categories, in the order of the file.
        numbers: Class number (from 1, in that order) by category id.
        images: All images, in the order of the file.
    """

    path: Path
    classes: tuple[str, ...]
    numbers: dict[Identifier, int]
    images: tuple[CocoImage, ...]


def read_annotations(path: Path) -> CocoFile:
    """Read what a file lists; annotations themselves stay in the file, only their place is kept.

    Ids may be whole numbers, decimals that are whole, or text.

    Raises:
        InputError: The file is missing, damaged, no instance annotations, or inconsistent.
    """
    names: dict[Identifier, str] = {}
    images: dict[Identifier, tuple[str, int, int]] = {}
    owners: dict[Identifier, int] = {}
    places = array("q")
    for item in items(path, ("images", "annotations", "categories")):
        where = f"{path}, the entry of `{item.key}` at byte {item.start}"
        if not isinstance(item.value, dict):
            raise InputError(
                f"{where}: {str(item.value)[:40]!r} is no object; take COCO's own file"
            )
        if item.key == "annotations":
            image = identifier(_entry(item.value, "image_id", where), where)
            identifier(_entry(item.value, "category_id", where), where)
            places.extend((owners.setdefault(image, len(owners)), item.start, item.end))
            continue
        # Names outside ASCII are only right when read as UTF-8.
        entry = read_again(path, item.start, item.end)
        number = identifier(_entry(entry, "id", where), where)
        if number in (images if item.key == "images" else names):
            raise InputError(f"{where}: the id {number!r} is listed twice; remove one entry")
        if item.key == "images":
            images[number] = _image(entry, where)
        else:
            names[number] = _text(entry, "name", where)
    if not names or not images:
        raise InputError(f"{path}: no categories or no images in it; take a file instances_….json")
    if not places:
        raise InputError(
            f"{path}: no annotations in it, so that every image would be background. Take the file"
            " instances_….json; those of test images (image_info_…) have none."
        )
    unknown = [image for image in owners if image not in images]
    if unknown:
        raise InputError(
            f"{path}: an annotation belongs to image {unknown[0]!r}, which is not listed; take the file"
            " as it was published"
        )
    spans = _by_image(places)
    return CocoFile(
        path,
        tuple(names.values()),
        {category: number for number, category in enumerate(names, start=1)},
        tuple(
            CocoImage(*entry, spans.get(owners.get(image, -1), ()))
            for image, entry in images.items()
        ),
    )


def identifier(value: Any, where: str) -> Identifier:
    """An id as it is compared: 7, 7.0 and "7" are the same; InputError for what is no id."""
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, str) and value.isascii() and value.isdigit():
        return int(value)
    if isinstance(value, (int, str)) and not isinstance(value, bool):
        return value
    raise InputError(f"{where}: {value!r} is no id; expected a whole number")


def _entry(values: Mapping[str, Any], key: str, where: str) -> Any:
    if key not in values:
        raise InputError(
            f"{where}: no key `{key}`; take COCO's own instance annotations, or add it"
        )
    return values[key]


def _text(values: Mapping[str, Any], key: str, where: str) -> str:
    text = _entry(values, key, where)
    if not isinstance(text, str) or not text.strip():
        raise InputError(f"{where}: `{key}` is {text!r}; expected text")
    return text.strip()


def _image(values: Mapping[str, Any], where: str) -> tuple[str, int, int]:
    """File name, width and height of an image."""
    name = _text(values, "file_name", where)
    if Path(name).name != name or "\\" in name:
        raise InputError(
            f"{where}: the image's file name {name!r} is not a plain name; leave out the folder"
        )
    sizes = []
    for key in ("width", "height"):
        size = _entry(values, key, where)
        if (
            isinstance(size, bool)
            or not isinstance(size, (int, float))
            or size != size // 1
            or size < 1
        ):
            raise InputError(f"{where}: `{key}` of {name} is {size!r}; expected a number of pixels")
        sizes.append(int(size))
    return name, sizes[0], sizes[1]


def _by_image(places: array) -> dict[int, tuple[tuple[int, int], ...]]:
    """[image, start, end, image, …] → (start, end) of each image's annotations, in file order."""
    table = np.frombuffer(places, np.int64).reshape(-1, 3)
    table = table[np.argsort(table[:, 0], kind="stable")]
    images, first = np.unique(table[:, 0], return_index=True)
    return {
        int(image): tuple((int(start), int(end)) for _, start, end in rows)
        for image, rows in zip(images, np.split(table, first[1:]), strict=bool(len(images)))
    }


def labels_of(
    annotations: Iterable[Mapping[str, Any]], numbers: Mapping[Identifier, int]
) -> list[int]:
    """Return the class numbers of an image, ascending; a crowd shows its class too.

    Raises:
        InputError: An annotation's category is not listed.
    """
    return sorted({_number(annotation, numbers) for annotation in annotations})


def render(
    annotations: Iterable[Mapping[str, Any]],
    height: int,
    width: int,
    numbers: Mapping[Identifier, int],
) -> np.ndarray:
    """Return the class mask uint8[H, W] of an image.

    Crowds are drawn first, as ignored (255): their outlines are coarse. Objects follow from the
    largest to the smallest number of pixels, so that small ones lie on top; of two with equally many
    pixels the one with the larger annotation id.

    Args:
        annotations: The image's annotations: polygons, or run lengths (compressed or not).
        height: Of the image, in pixels.
        width: Of the image, in pixels.
        numbers: Class number by category id.

    Raises:
        InputError: A segmentation is malformed, or its category is not listed.
    """
    mask = np.zeros((height, width), np.uint8)
    things: list[tuple[int, int, int, Any]] = []
    for place, annotation in enumerate(annotations):
        encoded = _encode(annotation, height, width)
        if encoded is None:
            continue
        if annotation.get("iscrowd", 0) not in (0, "0", None):
            mask[rle.decode(encoded).astype(bool)] = IGNORE
        else:
            number = _number(annotation, numbers)
            own = annotation.get("id")
            rank = own if isinstance(own, int) else place
            things.append((-int(rle.area(encoded)), rank, number, encoded))
    for _, _, number, encoded in sorted(things, key=lambda thing: thing[:2]):
        mask[rle.decode(encoded).astype(bool)] = number
    return mask


def _encode(annotation: Mapping[str, Any], height: int, width: int) -> Any:
    """One run-length encoding of an annotation's region; None if it has no area."""
    segmentation = annotation.get("segmentation")
    try:
        if isinstance(segmentation, list):
            polygons = [_corners(corners, height, width) for corners in segmentation]
            # pycocotools would take four numbers for a box.
            polygons = [corners for corners in polygons if len(corners) >= _LEAST_POLYGON]
            return rle.merge(rle.frPyObjects(polygons, height, width)) if polygons else None
        if not isinstance(segmentation, dict):
            raise ValueError("there is none; a box alone gives no mask")
        if list(segmentation.get("size") or ()) != [height, width]:
            raise ValueError(f"size {segmentation.get('size')}, image {[height, width]}")
        counts = runs_of(segmentation.get("counts"), height * width)
        return rle.frPyObjects({"size": [height, width], "counts": counts}, height, width)
    except Exception as error:  # pycocotools raises bare exceptions
        raise InputError(
            f"annotation {annotation.get('id')}: malformed segmentation ({error}). Correct it, or remove"
            " the annotation."
        ) from error


def _corners(corners: Any, height: int, width: int) -> list[float]:
    """Coordinates of a polygon; ValueError unless they are pairs of numbers near the image.

    pycocotools walks along each edge: of a coordinate far away, or none at all, it would fill the memory.
    """
    if not isinstance(corners, list):
        raise ValueError("a polygon is a list of numbers in a list of polygons")
    furthest = _FAR * (height + width)
    for value in corners:
        if (
            isinstance(value, bool)
            or not isinstance(value, (int, float))
            or not abs(value) <= furthest
        ):
            raise ValueError(f"the coordinate {value!r} is no place in or near the image")
    if len(corners) % 2:
        raise ValueError(f"{len(corners)} coordinates, which are no pairs")
    return [float(value) for value in corners]


def _number(annotation: Mapping[str, Any], numbers: Mapping[Identifier, int]) -> int:
    where = f"annotation {annotation.get('id')}"
    category = identifier(annotation["category_id"], where)
    if category not in numbers:
        raise InputError(
            f"{where}: category {category!r} is not listed under `categories`; add it there, or remove the"
            " annotation"
        )
    return numbers[category]
