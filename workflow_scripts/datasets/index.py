"""The index of a dataset: the one table that all stages after `prepare_dataset` read.

`index.csv` has the columns id, path, width, height, split, labels, mask; labels are class names joined
by ";", paths are absolute or relative to the folder of the table, and the mask may be empty. A further
column `state` differs between versions of an image and its mask: one that is replaced gives another
index. Nothing else reads it, and it may be missing. Beside the index, `classes.csv` names one class a row
(column `name`): class number i, from 1, is row i. In masks 0 is background and 255 is ignored.
"""

import csv
import unicodedata
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from workflow_scripts.errors import InputError
from workflow_scripts.storage.atomic import atomic_path

CLASSES_NAME = "classes.csv"
MAX_CLASSES = 254
RESERVED = frozenset({"background", "ignore", "ignored", "void", "255"})
_SEPARATOR = ";"


class IndexRow(NamedTuple):
    """One row as it is written: labels are class names, `mask` is empty where there is none.

    `state` says which version of the files it is, where a user may replace them.
    """

    id: str
    path: str
    width: int
    height: int
    split: str
    labels: Sequence[str]
    mask: str
    state: str = ""


COLUMNS = tuple(name for name in IndexRow._fields if name != "state")


@dataclass(frozen=True, slots=True)
class ImageRecord:
    """One image as it is read: labels are class numbers from 1, ascending; sizes are in pixels."""

    id: str
    path: Path
    width: int
    height: int
    split: str
    labels: tuple[int, ...]
    mask: Path | None


@dataclass(frozen=True, slots=True)
class Index:
    """Class names (class number i is `classes[i - 1]`) and images, in the order of the table."""

    path: Path
    classes: tuple[str, ...]
    records: tuple[ImageRecord, ...]

    def of_split(self, split: str) -> list[ImageRecord]:
        """Images of a split, in the order of the table; InputError when it has none."""
        chosen = [record for record in self.records if record.split == split]
        if not chosen:
            present = ", ".join(sorted({record.split for record in self.records})) or "none"
            raise InputError(
                f"{self.path}: split {split!r} has no images (splits present: {present}). Add rows"
                " of that split, or name another one in the configuration."
            )
        return chosen

    def shard(self, split: str, shard: int, shards: int) -> list[ImageRecord]:
        """Contiguous part `shard` (from 0) of `shards` nearly equal parts of a split."""
        if not 0 <= shard < shards:
            raise ValueError(f"shard {shard} of {shards}")
        chosen = self.of_split(split)
        return chosen[len(chosen) * shard // shards : len(chosen) * (shard + 1) // shards]


def write_index(path: Path | str, classes: Sequence[str], rows: Iterable[IndexRow]) -> None:
    """Write classes.csv and index.csv, row by row as they come; each whole or not at all.

    The index comes last, so that a folder with one is complete.

    Raises InputError for duplicate ids, labels that are no class, rows without a split, and class
    names that the table cannot hold.
    """
    path = Path(path)
    check_classes(classes, path)
    known = set(classes)
    seen: set[str] = set()
    with atomic_path(path) as temporary:
        with _writer(temporary) as write:
            write(IndexRow._fields)
            for row in rows:
                _check_row(row.id, row.split, row.labels, known, seen, str(path))
                write([*row[:5], _SEPARATOR.join(row.labels), row.mask, row.state])
        with atomic_path(path.with_name(CLASSES_NAME)) as names, _writer(names) as write:
            write(["name"])
            for name in classes:
                write([name])


def read_index(path: Path | str) -> Index:
    """Read index.csv and the classes.csv beside it.

    Raises InputError, naming file, line and field, for whatever does not fit the format.
    """
    path = Path(path)
    classes = read_classes(path.with_name(CLASSES_NAME))
    numbers = {name: number for number, name in enumerate(classes, start=1)}
    seen: set[str] = set()
    records = []
    for line, row in _read_table(path, COLUMNS, "state"):
        where = f"{path}, line {line}"
        labels = row["labels"].split(_SEPARATOR) if row["labels"] else []
        _check_row(row["id"], row["split"], labels, numbers.keys(), seen, where)
        if not row["path"]:
            raise InputError(f"{where}: image {row['id']!r} has no path; give the path of its file")
        records.append(
            ImageRecord(
                id=row["id"],
                path=path.parent / row["path"],
                width=_pixels(row["width"], "width", where),
                height=_pixels(row["height"], "height", where),
                split=row["split"],
                labels=tuple(sorted({numbers[name] for name in labels})),
                mask=path.parent / row["mask"] if row["mask"] else None,
            )
        )
    return Index(path, classes, tuple(records))


@contextmanager
def _writer(path: Path) -> Iterator:
    with path.open("w", newline="", encoding="utf-8") as stream:
        yield csv.writer(stream, lineterminator="\n").writerow


def check_classes(
    classes: Sequence[str], where: Path | str, lines: Mapping[str, int] | None = None
) -> None:
    """Raise InputError where names of classes collide with ours or with each other, or cannot be written.

    Args:
        classes: The names.
        where: The table that they come from, for messages.
        lines: The line that first has each, for messages.
    """

    def place(name: str) -> str:
        return f"{where}, line {lines[name]}" if lines else str(where)

    if not 1 <= len(classes) <= MAX_CLASSES:
        raise InputError(
            f"{where}: {len(classes)} classes; from 1 to {MAX_CLASSES} are possible, since masks have"
            " 8 bits. Join or leave out classes."
        )
    looks: dict[str, str] = {}
    for name in classes:
        if not name.strip() or _SEPARATOR in name or "\n" in name or "\r" in name:
            raise InputError(
                f"{place(name)}: class name {name!r} is empty or contains {_SEPARATOR!r} or a line"
                " break; rename it"
            )
        look = _look(name)
        if look.strip("_-.") in RESERVED:
            raise InputError(
                f"{place(name)}: {name!r} cannot be a class: background is what no label names, and"
                " 255 marks pixels that do not count. Remove that label (an image without labels"
                " is background), or give the class another name."
            )
        other = looks.setdefault(look, name)
        if list(classes).count(name) > 1:
            raise InputError(f"{where}: class {name!r} is listed twice; remove one")
        if other != name:
            raise InputError(
                f"{place(name)}: the classes {other!r} and {name!r} differ in case, blanks or the form"
                " of their letters alone. Write one name everywhere, or rename one."
            )


def _look(name: str) -> str:
    """What is left of a name for a reader who overlooks case, blanks and forms of Unicode."""
    plain = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", name).casefold())
    return "".join(
        letter for letter in plain if not letter.isspace() and unicodedata.category(letter) != "Cf"
    )


def _check_row(
    image_id: str,
    split: str,
    labels: Sequence[str],
    known: Iterable[str],
    seen: set[str],
    where: str,
) -> None:
    """Check what reading and writing both demand of a row, and add its id to those seen."""
    if not image_id:
        raise InputError(f"{where}: an image has no id; give each one of its own")
    if image_id in seen:
        raise InputError(f"{where}: image id {image_id!r} occurs twice; ids must be unique")
    seen.add(image_id)
    if not split:
        raise InputError(f"{where}: image {image_id!r} has no split; give one, such as train")
    for name in labels:
        if name not in known:
            raise InputError(
                f"{where}: image {image_id!r} has the label {name!r}, which is no class of"
                f" {CLASSES_NAME}; correct the label or add the class"
            )


def _pixels(text: str, field: str, where: str) -> int:
    if not (text.isascii() and text.isdigit() and int(text) > 0):
        raise InputError(f"{where}: {field} is {text!r}; expected a number of pixels above 0")
    return int(text)


def read_classes(path: Path) -> tuple[str, ...]:
    """Read the names of the classes from classes.csv; InputError when it does not fit the format."""
    classes = tuple(row["name"] for _, row in _read_table(path, ["name"]))
    check_classes(classes, path)
    return classes


def _read_table(
    path: Path, columns: Sequence[str], optional: str = ""
) -> Iterator[tuple[int, dict[str, str]]]:
    """Yield (line number, row) of a CSV file that has exactly these columns, in any order."""
    try:
        with path.open(newline="", encoding="utf-8-sig") as stream:
            reader = csv.DictReader(stream)
            found = reader.fieldnames or []
            if sorted(name for name in found if name != optional) != sorted(columns):
                raise InputError(
                    f"{path}: the columns are {', '.join(found) or 'missing'};"
                    f" expected {', '.join(columns)}"
                )
            for row in reader:
                if None in row or None in row.values():
                    raise InputError(
                        f"{path}, line {reader.line_num}: expected {len(found)} fields"
                    )
                yield reader.line_num, row
    except FileNotFoundError:
        raise InputError(f"{path}: no such file; run prepare_dataset first") from None
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(
            f"{path}: not a readable CSV table in UTF-8 ({error}); run prepare_dataset again"
        ) from error
