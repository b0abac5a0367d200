"""The table of images and their labels: what each row means, which file it names, which split it is in.

What people's programs write is read where it has one meaning: commas, semicolons or tabs between the fields,
UTF-8 or UTF-16; several labels separated by `;`, `|` or line breaks, as a Python or JSON list, or in one row
each. What has two meanings is refused: a comma in a label, or a word such as `nan`.
"""

import ast
import csv
import difflib
import hashlib
import io
import logging
import re
import unicodedata
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

from workflow_scripts.datasets.files import Folder, normalised, unique_names
from workflow_scripts.datasets.index import check_classes
from workflow_scripts.errors import InputError

logger = logging.getLogger(__name__)

SPLITS = ("train", "val")
_NEEDED = ("image", "labels")
_COLUMNS = (*_NEEDED, "split")
_DELIMITERS = ",;\t"
_MARKS = {b"\xef\xbb\xbf": "utf-8-sig", b"\xff\xfe": "utf-16", b"\xfe\xff": "utf-16"}
_MISSING = frozenset({
    "nan", "<na>", "na", "n/a", "#n/a", "none", "null", "nil", "nat", "-", "--", "?", "unknown",
})  # fmt: skip
# What stands between the labels of a field; the first is the documented one.
_SEPARATORS = re.compile(r"[|\r\n\t]")
# What may stand inside a name, but is suspicious where all parts are labels elsewhere.
_JOINTS = re.compile(r"\s*[/+&]\s*|\s+")
_BRACKETS = ("[]", "()", "{}")
_SHOWN = 5


@dataclass(frozen=True, slots=True)
class TableRow:
    """An image as the table says; `split` is None where the table has no such column."""

    line: int
    image: str
    labels: tuple[str, ...]
    split: str | None


def read_table(path: Path, classes: Sequence[str] = ()) -> list[TableRow]:
    """Read the table: columns `image`, `labels` and, optionally, `split`; others are ignored.

    Args:
        path: The table.
        classes: Names that are classes for sure, whatever is in them.

    Raises:
        InputError: The file is missing, no such table, or a row has no meaning, or two.
    """
    known = frozenset(map(normalised, classes))
    rows = [_row(path, line, values, known) for line, values in _fields(path)]
    if not rows:
        raise InputError(f"{path}: the table has no rows; write one for each image")
    _check_joints(path, rows, known)
    return _merged(path, rows)


def _text(path: Path) -> str:
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        raise InputError(
            f"{path}: no such table. Write one with a first line `image,labels` and one row an"
            " image; several labels are separated by `;`."
        ) from None
    except OSError as error:
        raise InputError(
            f"{path}: the table cannot be read ({error.strerror}); give a file that can"
        ) from error
    encoding = next((name for mark, name in _MARKS.items() if data.startswith(mark)), "utf-8")
    try:
        text = data.decode(encoding)
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise InputError(
            f"{path}, line {line}: not a readable CSV table in UTF-8. Save it as UTF-8 (in Excel: CSV"
            " UTF-8), so that names outside ASCII have one meaning."
        ) from error
    if "\0" in text:
        raise InputError(
            f"{path}: not a readable CSV table in UTF-8: it holds zero bytes. Save it as UTF-8."
        )
    return text


def _fields(path: Path) -> Iterator[tuple[int, dict[str, str]]]:
    """Yield the line and the fields of each row, by the names of the columns in lower case."""
    text = _text(path)
    first, _, rest = text.partition("\n")
    skipped = 0
    if re.fullmatch(r"\s*sep=.\s*", first):  # Excel's
        text, skipped = rest, 1
    delimiter, columns = _columns(path, text)
    reader = csv.reader(
        io.StringIO(text, newline=""), delimiter=delimiter, skipinitialspace=True, strict=True
    )
    try:
        next(reader)
        start = reader.line_num + 1
        for fields in reader:
            line, start = start + skipped, reader.line_num + 1
            if not any(field.strip() for field in fields):
                continue
            if any(field.strip() for field in fields[len(columns) :]):
                raise InputError(
                    f"{path}, line {line}: more fields than columns. Put `;` between several labels,"
                    f" and a field that holds {_shown(delimiter)} in double quotes."
                )
            if len(fields) < len(columns):
                raise InputError(
                    f"{path}, line {line}: {len(fields)} fields for {len(columns)} columns. Leave the field"
                    f" of an image without labels empty: `{fields[0].strip()}{_shown(delimiter)}`."
                )
            yield (
                line,
                dict(zip(columns, (normalised(field.strip()) for field in fields), strict=False)),
            )
    except csv.Error as error:
        raise InputError(
            f"{path}, line {reader.line_num + skipped}: not a readable CSV table ({error}). A double"
            " quote that opens a field must close it."
        ) from error


def _columns(path: Path, text: str) -> tuple[str, list[str]]:
    """The delimiter, and the names of the columns."""
    found = {}
    for delimiter in _DELIMITERS:
        try:
            first = next(
                csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True), []
            )
        except csv.Error:
            continue
        columns = [normalised(name.strip()).lower() for name in first]
        if set(_NEEDED) <= set(columns):
            found[delimiter] = columns
    if len(found) != 1:
        first_line = text.partition("\n")[0].strip()
        missing = [
            name for name in _NEEDED if name not in re.split(r"[,;\t\"\s]+", first_line.lower())
        ]
        raise InputError(
            f"{path}: no column {' and no column '.join(f'`{name}`' for name in missing or _NEEDED)};"
            f" its first line is {first_line[:100]!r}, expected `image,labels`. Rename the columns."
        )
    [(delimiter, columns)] = found.items()
    for name in _COLUMNS:
        if columns.count(name) > 1:
            raise InputError(
                f"{path}: two columns are called `{name}`, and only one can count. Put all labels of an"
                " image into one, separated by `;`, or rename the other."
            )
    return delimiter, columns


def _shown(delimiter: str) -> str:
    return "a tab" if delimiter == "\t" else delimiter


def _row(path: Path, line: int, values: dict[str, str], known: Collection[str]) -> TableRow:
    where = f"{path}, line {line}"
    if not values["image"]:
        raise InputError(f"{where}: the field `image` is empty; name the image or remove the row")
    split = values.get("split")
    if split is not None:
        split = split.lower() if split.lower() in SPLITS else split
        if not split:
            raise InputError(
                f"{where}: image {values['image']!r} has no split; give train or val, or remove the"
                " column `split`"
            )
    labels = _labels(values["labels"], known, f"{where}: image {values['image']!r}")
    return TableRow(line, values["image"], labels, split)


def _labels(cell: str, known: Collection[str], where: str) -> tuple[str, ...]:
    """The labels in a field, each once, in their order."""
    labels: dict[str, None] = {}
    for part in [cell] if cell in known else _listed(cell, where):
        for text in [part] if part in known else _SEPARATORS.split(part):
            for label in _parts_at_commas(text.strip(), known, where):
                labels[label] = None
    for label in labels:
        if label in known:
            continue
        if label.lower() in _MISSING:
            raise InputError(
                f"{where} has the label {label!r}. If it shows no class, leave the field empty; if its"
                " labels are not known, remove the row. A class of that name goes into"
                " `dataset.classes`."
            )
        if any(unicodedata.category(letter) == "Cc" for letter in label):
            raise InputError(
                f"{where} has the label {label!r}, which holds control characters; remove them"
            )
    return tuple(labels)


def _listed(cell: str, where: str) -> list[str]:
    """What stands between semicolons, or in a list as Python and JSON write them."""
    if not any(cell.startswith(pair[0]) and cell.endswith(pair[1]) for pair in _BRACKETS):
        return cell.split(";")
    try:
        values = ast.literal_eval(cell)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        values = None
    if not isinstance(values, (list, tuple, set)) or not all(
        isinstance(value, (str, int)) and not isinstance(value, bool) for value in values
    ):
        # (Sets and single names in brackets end here too, unless they are quoted.)
        raise InputError(
            f"{where} has the labels {cell!r}, which look like a list but are none. Write the names"
            " with `;` between them; a class of that name goes into `dataset.classes`."
        )
    chosen = sorted(values, key=str) if isinstance(values, set) else values
    return [normalised(str(value).strip()) for value in chosen]


def _parts_at_commas(text: str, known: Collection[str], where: str) -> list[str]:
    if not text or text in known:
        return [text] if text else []
    if "," not in text:
        return [text]
    parts = [part for part in map(str.strip, text.split(",")) if part]
    if parts and all(part in known for part in parts):
        return parts
    raise InputError(
        f"{where} has the label {text!r}, which holds a comma. Are these several labels? Then put `;`"
        " between them. If it is the name of one class, list that in `dataset.classes`."
    )


def _check_joints(path: Path, rows: Sequence[TableRow], known: Collection[str]) -> None:
    """Refuse "cat dog" and "cat/dog" where the table has the labels cat and dog."""
    used = {label for row in rows for label in row.labels}
    for row in rows:
        for label in row.labels:
            parts = _JOINTS.split(label)
            if label not in known and len(parts) > 1 and all(part in used for part in parts):
                raise InputError(
                    f"{path}, line {row.line}: image {row.image!r} has the label {label!r}, and"
                    f" {', '.join(map(repr, parts))} are labels too. Put `;` between several labels; if"
                    " it is the name of one class, list all classes in `dataset.classes`."
                )


def _merged(path: Path, rows: Sequence[TableRow]) -> list[TableRow]:
    """One row an image: those of a table with one row a label are joined."""
    of_image: dict[str, TableRow] = {}
    single = all(len(row.labels) == 1 for row in rows)
    joined = 0
    for row in rows:
        name = PurePosixPath(row.image).as_posix()
        first = of_image.get(name)
        if first is None:
            of_image[name] = row
            continue
        if not single or first.split != row.split:
            what = "split" if first.split != row.split else "row"
            raise InputError(
                f"{path}, line {row.line}: image {row.image!r} has a {what} already, in line"
                f" {first.line}. Write one row with all its labels, separated by `;`, and remove the"
                " other."
            )
        joined += 1
        of_image[name] = replace(first, labels=tuple(dict.fromkeys(first.labels + row.labels)))
    if joined:
        logger.info(
            "%s: one row a label: %d rows are joined to those of %d images",
            path, joined, len(of_image),
        )  # fmt: skip
    return list(of_image.values())


def find_images(table: Path, rows: Sequence[TableRow], folder: Folder) -> list[str]:
    """Return each row's image as a key of `folder.files`; warn of images without a row.

    Raises:
        InputError: A row's image does not exist, or two rows mean the same image.
    """
    found: dict[str, int] = {}
    for row in rows:
        key = next((name for name in _spellings(row.image, folder) if name in folder.files), None)
        if key is None:
            raise InputError(f"{table}, line {row.line}: {_absent(row.image, folder)}")
        if key in found:
            raise InputError(
                f"{table}, line {row.line}: image {row.image!r} has a row already, in line"
                f" {found[key]}. Write one row with all its labels, separated by `;`, and remove the"
                " other."
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


def _spellings(image: str, folder: Folder) -> Iterator[str]:
    """What a row may mean by its image: as it stands, below the folder's name, or as Windows writes it."""
    inner = normalised(folder.path.name)
    whole = normalised(folder.path.absolute().as_posix())
    for text in (image, image.replace("\\", "/")):
        name = PurePosixPath(text).as_posix()
        yield name
        yield name.removeprefix(f"{inner}/")
        yield name.removeprefix(f"{whole}/")


def _absent(image: str, folder: Folder) -> str:
    """What to say of an image that is not among those that count."""
    name = PurePosixPath(image.replace("\\", "/")).as_posix()
    reason = folder.reason(name)
    if reason:
        return (
            f"image {image!r} lies in {folder.path}, but is left out: {reason}. Convert or rename it,"
            " or remove the row."
        )
    near = [other for other in folder.files if other.casefold() == name.casefold()]
    near = near or [other for other in folder.files if other.rpartition(".")[0] == name]
    near = near or [
        other for other in folder.files if PurePosixPath(other).name == PurePosixPath(name).name
    ]
    near = near or difflib.get_close_matches(name, folder.files, n=1, cutoff=0.8)
    hint = f"Is it {near[0]!r}? " if near else ""
    return (
        f"no image {image!r} in {folder.path}. {hint}Correct the name (with its suffix), or remove the"
        " row."
    )


def make_ids(names: Sequence[str]) -> list[str]:
    """Return one id an image: its path without the suffix, `_` between folders; see `unique_names`."""
    return unique_names(names, "_")


def choose_splits(ids: Sequence[str], val_share: float, seed: int) -> list[str]:
    """Return "train" or "val" for each image, by a hash of seed and id.

    The choice does not depend on the order of the images. Both splits get at least one.

    Raises:
        InputError: There are fewer than two images.
    """
    if len(ids) < 2:
        raise InputError(
            f"the table has {len(ids)} image(s); a training and a validation split need at least two"
            " images in all. Add some."
        )
    count = min(max(round(val_share * len(ids)), 1), len(ids) - 1)
    ranked = sorted(ids, key=lambda name: hashlib.sha256(f"{seed} {name}".encode()).digest())
    val = set(ranked[:count])
    return ["val" if name in val else "train" for name in ids]


def find_masks(names: Sequence[str], folder: Folder) -> list[Path | None]:
    """Return each image's mask: `cat.jpg.png`, else `cat.png` if no other image is called `cat`.

    Raises InputError where an image has two, such as `cat.png` and `cat.tif`.
    """
    shared = Counter(map(_stem, names))
    by_stem: dict[str, list[str]] = {}
    for mask in folder.files:
        by_stem.setdefault(_stem(mask), []).append(mask)
    masks = []
    for name in names:
        stem = _stem(name)
        found = by_stem.get(name) or (by_stem.get(stem) if shared[stem] == 1 else None) or []
        if len(found) > 1:
            raise InputError(
                f"{folder.path}: {' and '.join(found)} are both masks of {name}; remove all but one"
            )
        masks.append(folder.files[found[0]] if found else None)
    return masks


def _stem(name: str) -> str:
    return PurePosixPath(name).with_suffix("").as_posix()


def choose_classes(
    table: Path, rows: Iterable[TableRow], configured: Sequence[str]
) -> tuple[str, ...]:
    """Return the classes in order: those configured, else all labels of the table, sorted.

    Names that are all whole numbers are sorted as such: 1, 2, 10. Warns of configured classes that no
    image has.

    Raises:
        InputError: A label is not configured, or cannot be a class, or there is no label at all.
    """
    classes = tuple(normalised(name) for name in configured)
    used: dict[str, int] = {}
    for row in rows:
        for label in row.labels:
            if classes and label not in classes:
                near = difflib.get_close_matches(label, classes, n=1)
                raise InputError(
                    f"{table}, line {row.line}: image {row.image!r} has the label {label!r}, which"
                    f" is not in the list of classes ({', '.join(classes)})."
                    f"{f' Is it {near[0]!r}?' if near else ''} Correct the label, or add it to"
                    " `dataset.classes`."
                )
            used.setdefault(label, row.line)
    if not used:
        raise InputError(
            f"{table}: no image has any label; there is nothing to learn. Fill the column `labels`."
        )
    check_classes(list(used), str(table), used)
    unused = [name for name in classes if name not in used]
    if unused:
        logger.warning(
            "%s: no image has the class %s. Its score means nothing; remove it from"
            " `dataset.classes`, or add images.",
            table,
            ", ".join(map(repr, unused)),
        )
    if classes:
        return classes
    return tuple(sorted(used, key=int) if all_numbers(used) else sorted(used))


def all_numbers(names: Iterable[str]) -> bool:
    """Whether all names are whole numbers in ASCII."""
    return all(name.isascii() and name.isdigit() for name in names)
