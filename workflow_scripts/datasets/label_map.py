"""The colours of classes in masks of annotation tools: `labelmap.txt`, as CVAT and Datumaro write it.

A line is `name:red,green,blue:parts:actions`; lines that begin with `#` are comments. The names stand in the
order of the project's labels, which is that of the classes' numbers here; `background` is 0 wherever it
stands, and names that mark what does not count (`ignored`, `void`) are 255.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from workflow_scripts.datasets.index import RESERVED, check_classes
from workflow_scripts.errors import InputError
from workflow_scripts.storage.masks import IGNORE

NAME = "labelmap.txt"
BACKGROUND = "background"
# Where CVAT's and Datumaro's exports have their masks, beside the file.
_MASKS = "SegmentationClass"

Colour = tuple[int, int, int]


@dataclass(frozen=True)
class LabelMap:
    """Names and colours of a project's classes.

    Attributes:
        path: The file.
        classes: Names of the classes; number i is `classes[i - 1]`.
        numbers: Class number of each colour (red, green, blue), 0 and 255 among them.
    """

    path: Path
    classes: tuple[str, ...]
    numbers: dict[Colour, int]

    def numbers_for(self, classes: Sequence[str]) -> dict[Colour, int]:
        """Class number of each colour in a list of classes; -1 where it does not have the class."""
        place = {0: 0, IGNORE: IGNORE}
        for number, name in enumerate(self.classes, start=1):
            place[number] = classes.index(name) + 1 if name in classes else -1
        return {colour: place[number] for colour, number in self.numbers.items()}


def masks_in(folder: Path) -> Path:
    """The folder of the masks: an export of CVAT has them in one of its own, beside the label map."""
    inside = folder / _MASKS
    return inside if (folder / NAME).is_file() and inside.is_dir() else folder


def find_label_map(folder: Path) -> Path | None:
    """The label map of the masks in a folder: in it, or in the nearest folder above; None without one."""
    places = (place / NAME for place in (folder, *folder.parents))
    return next((path for path in places if path.is_file()), None)


def label_map_of(mask: Path) -> LabelMap | None:
    """The label map that a mask's colours are to be read by; see `find_label_map` and `read_label_map`."""
    path = find_label_map(mask.parent)
    return None if path is None else _read_once(path, path.stat().st_mtime_ns)


@lru_cache(maxsize=8)
def _read_once(path: Path, changed: int) -> LabelMap:
    return read_label_map(path)


def read_label_map(path: Path) -> LabelMap:
    """Read a label map.

    Raises:
        InputError: Naming file and line: a line of another form, a name or a colour that occurs twice, or
            no class at all.
    """
    classes: list[str] = []
    lines: dict[str, int] = {}
    numbers: dict[Colour, int] = {}
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: not a readable text in UTF-8 ({error})") from error
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        name, colour = _entry(line, f"{path}, line {number}")
        if colour in numbers:
            raise InputError(
                f"{path}, line {number}: the colour {colour} of {name!r} stands above already; give each"
                " class a colour of its own"
            )
        if name.casefold() == BACKGROUND:
            numbers[colour] = 0
        elif name.casefold() in RESERVED:
            numbers[colour] = IGNORE
        else:
            classes.append(name)
            lines.setdefault(name, number)
            numbers[colour] = len(classes)
    check_classes(classes, path, lines)
    # What a tool leaves unpainted is black; VOC's borders have a colour of their own.
    numbers.setdefault((0, 0, 0), 0)
    numbers.setdefault((224, 224, 192), IGNORE)
    return LabelMap(path, tuple(classes), numbers)


def _entry(line: str, where: str) -> tuple[str, Colour]:
    """Name and colour of a line."""
    # A name may have colons of its own; behind it stand colour, parts and actions.
    name, *rest = line.strip().rsplit(":", 3)
    fields = rest[0].split(",") if len(rest) == 3 else []
    if len(fields) != 3 or not all(field.strip().isdecimal() for field in fields):
        raise InputError(
            f"{where}: {line.strip()!r} is no entry of a label map; expected `name:red,green,blue::`, as"
            " CVAT and Datumaro write it"
        )
    red, green, blue = (int(field) for field in fields)
    if max(red, green, blue) > 255:
        raise InputError(
            f"{where}: the colour ({red}, {green}, {blue}) is no colour; expected numbers from 0 to 255"
        )
    return name.strip(), (red, green, blue)
