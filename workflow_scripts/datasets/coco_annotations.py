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

from workflow_scripts.errors import InputError
from workflow_scripts.storage.masks import IGNORE

CHUNK = 1 << 22
_SPACE = " \t\r\n"
_LEAST_POLYGON = 6  # x and y of three corners


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
        raise InputError(f"{path}: cannot be read ({error.strerror})") from error
    except ValueError as error:
        raise InputError(f"{path}: not a complete JSON object ({error})") from error


def read_again(path: Path, start: int, end: int) -> Any:
    """Return the value that lies at these bytes of a file."""
    with path.open("rb") as stream:
        stream.seek(start)
        return json.loads(stream.read(end - start))


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

    def _skip_if(self, character: str) -> bool:
        if self._next_character() != character:
            return False
        self._at += 1
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
    numbers: dict[int, int]
    images: tuple[CocoImage, ...]


def read_annotations(path: Path) -> CocoFile:
    """Read what a file lists; annotations themselves stay in the file, only their place is kept.

    Raises:
        InputError: The file is missing, damaged, no instance annotations, or inconsistent.
    """
    names: dict[int, str] = {}
    images: dict[int, tuple[str, int, int]] = {}
    places = array("q")
    try:
        for item in items(path, ("images", "annotations", "categories")):
            if item.key == "images":
                entry = item.value
                images[entry["id"]] = (entry["file_name"], entry["width"], entry["height"])
            elif item.key == "annotations":
                places.extend((item.value["image_id"], item.start, item.end))
            else:
                category = read_again(path, item.start, item.end)
                names[category["id"]] = category["name"]
    except (KeyError, TypeError, OverflowError) as error:
        raise InputError(
            f"{path}: these are no instance annotations of COCO ({error!r})"
        ) from error
    if not names or not images:
        raise InputError(f"{path}: no categories or no images in it; is it an instances_….json?")
    spans = _by_image(places)
    unknown = sorted(set(spans) - set(images))
    if unknown:
        raise InputError(
            f"{path}: an annotation belongs to image {unknown[0]}, which is not listed"
        )
    for name, _, _ in images.values():
        if Path(name).name != name:
            raise InputError(f"{path}: the image's file name {name!r} is not a plain name")
    return CocoFile(
        path,
        tuple(names.values()),
        {category: number for number, category in enumerate(names, start=1)},
        tuple(CocoImage(*entry, spans.get(image, ())) for image, entry in images.items()),
    )


def _by_image(places: array) -> dict[int, tuple[tuple[int, int], ...]]:
    """[image, start, end, image, …] → (start, end) of each image's annotations, in file order."""
    table = np.frombuffer(places, np.int64).reshape(-1, 3)
    table = table[np.argsort(table[:, 0], kind="stable")]
    images, first = np.unique(table[:, 0], return_index=True)
    return {
        int(image): tuple((int(start), int(end)) for _, start, end in rows)
        for image, rows in zip(images, np.split(table, first[1:]), strict=bool(len(images)))
    }


def labels_of(annotations: Iterable[Mapping[str, Any]], numbers: Mapping[int, int]) -> list[int]:
    """Return the class numbers of an image, ascending; a crowd shows its class too.

    Raises:
        InputError: An annotation's category is not listed.
    """
    return sorted({_number(annotation, numbers) for annotation in annotations})


def render(
    annotations: Iterable[Mapping[str, Any]], height: int, width: int, numbers: Mapping[int, int]
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
    for annotation in annotations:
        encoded = _encode(annotation, height, width)
        if encoded is None:
            continue
        if annotation.get("iscrowd", 0):
            mask[rle.decode(encoded).astype(bool)] = IGNORE
        else:
            number = _number(annotation, numbers)
            things.append((-int(rle.area(encoded)), annotation["id"], number, encoded))
    for _, _, number, encoded in sorted(things, key=lambda thing: thing[:2]):
        mask[rle.decode(encoded).astype(bool)] = number
    return mask


def _encode(annotation: Mapping[str, Any], height: int, width: int) -> Any:
    """One run-length encoding of an annotation's region; None if it has no area."""
    segmentation = annotation["segmentation"]
    try:
        if isinstance(segmentation, list):
            # pycocotools would take four numbers for a box.
            polygons = [corners for corners in segmentation if len(corners) >= _LEAST_POLYGON]
            return rle.merge(rle.frPyObjects(polygons, height, width)) if polygons else None
        if list(segmentation["size"]) != [height, width]:
            raise ValueError(f"size {segmentation['size']}, image {[height, width]}")
        if isinstance(segmentation["counts"], list):
            return rle.frPyObjects(segmentation, height, width)
        return segmentation
    except Exception as error:  # pycocotools raises bare exceptions
        raise InputError(
            f"annotation {annotation.get('id')}: malformed segmentation ({error})"
        ) from error


def _number(annotation: Mapping[str, Any], numbers: Mapping[int, int]) -> int:
    try:
        return numbers[annotation["category_id"]]
    except KeyError:
        raise InputError(
            f"annotation {annotation.get('id')}: category {annotation.get('category_id')} is not"
            " listed under `categories`"
        ) from None
