"""The table of a folder dataset: which file each row means, what its id is, which split it is in.

Names in the table and names on disk are compared after Unicode normalisation, since the same "é" is
written in two ways, depending on the system that wrote it.
"""

import csv
import hashlib
import logging
import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from workflow_scripts.errors import InputError

logger = logging.getLogger(__name__)

IMAGE_SUFFIXES = frozenset(
    {".jpg", ".jpeg", ".jpe", ".png", ".webp", ".bmp", ".tif", ".tiff", ".gif"}
)
MASK_SUFFIXES = frozenset({".png"})
SPLITS = ("train", "val")
_SHOWN = 5


@dataclass(frozen=True, slots=True)
class TableRow:
    """A row as it stands in the table; `split` is None where the table has no such column."""

    line: int
    image: str
    labels: tuple[str, ...]
    split: str | None


@dataclass(frozen=True, slots=True)
class Folder:
    """The files below a folder, by their normalised path relative to it."""

    path: Path
    files: dict[str, Path]

    @classmethod
    def scan(cls, path: Path, suffixes: frozenset[str], without: Path | None = None) -> "Folder":
        """List the files below `path` that have one of the suffixes.

        Left out are hidden files, and those below the folder `without`.
        """
        files = {}
        for file in sorted(path.rglob("*")):
            relative = file.relative_to(path)
            hidden = any(part.startswith(".") for part in relative.parts)
            hidden = hidden or (without is not None and file.is_relative_to(without))
            if file.suffix.lower() in suffixes and not hidden and file.is_file():
                files[normalised(relative.as_posix())] = file
        return cls(path, files)


def normalised(text: str) -> str:
    """Return text in the composed form of Unicode (NFC)."""
    return unicodedata.normalize("NFC", text)


def read_table(path: Path) -> list[TableRow]:
    """Read the table: columns `image`, `labels` and, optionally, `split`; others are ignored.

    Raises:
        InputError: The file is missing, no CSV in UTF-8, lacks a column, or has an odd row.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as stream:
            reader = csv.DictReader(stream, skipinitialspace=True)
            reader.fieldnames = [name.strip().lower() for name in reader.fieldnames or ()]
            for column in ("image", "labels"):
                if column not in reader.fieldnames:
                    raise InputError(
                        f"{path}: no column `{column}`; its first line is"
                        f" {','.join(reader.fieldnames)!r}, expected `image,labels`"
                    )
            rows = [_row(path, reader.line_num, fields) for fields in reader]
    except FileNotFoundError:
        raise InputError(
            f"{path}: no such table. Write one with a first line `image,labels` and one row an"
            " image; several labels are separated by `;`."
        ) from None
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{path}: not a readable CSV table in UTF-8 ({error})") from error
    if not rows:
        raise InputError(f"{path}: the table has no rows")
    return rows


def _row(path: Path, line: int, fields: dict[str | None, str | None]) -> TableRow:
    if None in fields:
        raise InputError(
            f"{path}, line {line}: more fields than columns. Several labels are separated by `;`; a"
            " name that holds a comma stands in double quotes."
        )
    values = {str(key): normalised((value or "").strip()) for key, value in fields.items()}
    if not values["image"]:
        raise InputError(f"{path}, line {line}: the field `image` is empty")
    if "split" in values and not values["split"]:
        raise InputError(
            f"{path}, line {line}: image {values['image']!r} has no split; give train or val, or"
            " remove the column `split`"
        )
    labels = [label.strip() for label in values["labels"].split(";")]
    unique = tuple(dict.fromkeys(label for label in labels if label))
    return TableRow(line, values["image"], unique, values.get("split"))


def find_images(table: Path, rows: Sequence[TableRow], folder: Folder) -> list[str]:
    """Return each row's image as a key of `folder.files`; warn of images without a row.

    Raises:
        InputError: A row's image does not exist, or two rows mean the same image.
    """
    found: dict[str, int] = {}
    inner = normalised(folder.path.name)
    for row in rows:
        name = PurePosixPath(row.image).as_posix()
        key = name if name in folder.files else name.removeprefix(f"{inner}/")
        if key not in folder.files:
            raise InputError(
                f"{table}, line {row.line}: no image {row.image!r} in {folder.path}. Correct the"
                " name (with its suffix), or remove the row."
            )
        if key in found:
            raise InputError(
                f"{table}, line {row.line}: image {row.image!r} has a row already, in line"
                f" {found[key]}; remove one of them"
            )
        found[key] = row.line
    spare = [name for name in folder.files if name not in found]
    if spare:
        logger.warning(
            "%s: %d image(s) without a row are left out: %s%s. Give them a row (without labels, if"
            " they show no class) to use them.",
            table,
            len(spare),
            ", ".join(spare[:_SHOWN]),
            " …" if len(spare) > _SHOWN else "",
        )
    return list(found)


def make_ids(names: Sequence[str]) -> list[str]:
    """Return one id an image: its path without the suffix, `_` between folders.

    Where that would name several images they keep their suffix, and where that does not suffice
    they are numbered, in their order.
    """
    full = [name.replace("/", "_") for name in names]
    short = [str(PurePosixPath(name).with_suffix("")).replace("/", "_") for name in names]
    shared = Counter(short)
    wished = [long if shared[brief] > 1 else brief for brief, long in zip(short, full, strict=True)]
    taken: set[str] = set()
    ids = []
    for wish in wished:
        name = wish
        number = 2
        while name in taken:
            name = f"{wish}-{number}"
            number += 1
        taken.add(name)
        ids.append(name)
    return ids


def choose_splits(ids: Sequence[str], val_share: float, seed: int) -> list[str]:
    """Return "train" or "val" for each image, by a hash of seed and id.

    The choice does not depend on the order of the images. Both splits get at least one.

    Raises:
        InputError: There are fewer than two images.
    """
    if len(ids) < 2:
        raise InputError("A training and a validation split need at least two images.")
    count = min(max(round(val_share * len(ids)), 1), len(ids) - 1)
    ranked = sorted(ids, key=lambda name: hashlib.sha256(f"{seed} {name}".encode()).digest())
    val = set(ranked[:count])
    return ["val" if name in val else "train" for name in ids]


def find_masks(names: Sequence[str], folder: Folder) -> list[Path | None]:
    """Return each image's mask: `cat.jpg.png`, else `cat.png` if no other image is called `cat`."""
    stems = [str(PurePosixPath(name).with_suffix("")) for name in names]
    shared = Counter(stems)
    masks = []
    for name, stem in zip(names, stems, strict=True):
        mask = folder.files.get(f"{name}.png")
        if mask is None and shared[stem] == 1:
            mask = folder.files.get(f"{stem}.png")
        masks.append(mask)
    return masks


def choose_classes(
    table: Path, rows: Iterable[TableRow], configured: Sequence[str]
) -> tuple[str, ...]:
    """Return the classes in order: those configured, else all labels of the table, sorted.

    Warns of configured classes that no image has.

    Raises:
        InputError: A label is not configured, or there is no label at all.
    """
    classes = tuple(normalised(name) for name in configured)
    used = set()
    for row in rows:
        for label in row.labels:
            if classes and label not in classes:
                raise InputError(
                    f"{table}, line {row.line}: image {row.image!r} has the label {label!r}, which"
                    f" is not in the list of classes ({', '.join(classes)}). Correct the label, or"
                    " add it to `dataset.classes`."
                )
            used.add(label)
    if not used:
        raise InputError(f"{table}: no image has any label; there is nothing to learn")
    unused = [name for name in classes if name not in used]
    if unused:
        logger.warning(
            "%s: no image has the class %s. Its score means nothing; remove it from"
            " `dataset.classes`, or add images.",
            table,
            ", ".join(map(repr, unused)),
        )
    return classes or tuple(sorted(used))
