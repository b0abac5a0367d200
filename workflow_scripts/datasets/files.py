"""What lies in a folder, by one rule for images and masks, and what the results for each are called.

Sub-folders count, those that are links too. Suffixes count in any case. A name is that of the path below the
folder, with "/" between its parts, in the composed form of Unicode (NFC): the same "é" is written in two
ways, depending on the system that wrote it. What is left out is kept with the reason, to be told.
"""

import hashlib
import logging
import os
import unicodedata
from collections import Counter, deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from workflow_scripts.datasets.label_map import NAME as LABEL_MAP
from workflow_scripts.errors import InputError
from workflow_scripts.storage.file_state import file_state

logger = logging.getLogger(__name__)

IMAGE_SUFFIXES = frozenset({
    ".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".bmp", ".tif", ".tiff", ".gif", ".avif", ".jp2",
    ".ppm", ".pgm", ".pnm", ".tga",
})  # fmt: skip
MASK_SUFFIXES = frozenset({".png", ".bmp", ".tif", ".tiff", ".gif"})
UNREAD_SUFFIXES = frozenset({
    ".heic", ".heif", ".jxl", ".raw", ".dng", ".cr2", ".cr3", ".nef", ".arw", ".orf", ".rw2", ".psd", ".svg",
    ".exr",
})  # fmt: skip
ARCHIVE_SUFFIXES = frozenset({".zip", ".tar", ".tgz", ".gz", ".7z", ".rar", ".bz2", ".xz"})

HIDDEN = "hidden or of the system"
UNDECODABLE = "with a name that is no UTF-8 (rename them)"
BROKEN = "links that lead nowhere, or no files at all"
LINKED_TWICE = "links to a folder that counts already"
SAME_NAME = "with the name of another file, in another form of Unicode (rename one)"
FORBIDDEN = "folders that may not be read (change their permissions)"
ARCHIVES = "archives (unpack them)"
LOSSY = "of a kind that changes the values of a mask (save masks as PNG)"
UNREAD = "photographs of a kind that is not read (convert them to JPEG)"
OTHER = "of another kind"

_SYSTEM = frozenset({
    "thumbs.db", "desktop.ini", "ehthumbs.db", "__macosx", "@eadir", "$recycle.bin", "lost+found",
    "system volume information",
})  # fmt: skip
_SHOWN = 3
_LONGEST_NAME = 240
_KEPT_OF_LONG_NAME = 180
_DIGITS = 12


def normalised(text: str) -> str:
    """Return text in the composed form of Unicode (NFC)."""
    return unicodedata.normalize("NFC", text)


def printable(name: str) -> str:
    """Return a name that any stream can show: what is no UTF-8 as \\udcXX."""
    return name.encode("utf-8", "backslashreplace").decode("utf-8")


@dataclass(frozen=True, slots=True)
class Folder:
    """The files below a folder.

    Attributes:
        path: The folder.
        files: Their paths by name, in the order of the names.
        left_out: Names of what does not count, by reason.
    """

    path: Path
    files: dict[str, Path]
    left_out: dict[str, list[str]] = field(default_factory=dict)

    @classmethod
    def scan(
        cls, path: Path, suffixes: frozenset[str], without: Iterable[Path | None] = ()
    ) -> "Folder":
        """List the files below `path` that have one of the suffixes.

        Args:
            path: The folder.
            suffixes: Endings in lower case.
            without: Folders that do not count, however their paths are written.
        """
        return _Scan(path, suffixes, without).run()

    def summary(self) -> str:
        """What is left out, in words: number, reason and the first names; "" if there is nothing."""
        return "; ".join(
            f"{len(names)} {reason} ({', '.join(names[:_SHOWN])}{', …' if len(names) > _SHOWN else ''})"
            for reason, names in sorted(self.left_out.items())
        )

    def tell(self) -> None:
        """Log what is left out, if anything is."""
        if self.left_out:
            logger.warning("%s: left out: %s", self.path, self.summary())

    def reason(self, name: str) -> str | None:
        """Why a name that is not among `files` is left out; None if no such file is there."""
        return next((why for why, names in self.left_out.items() if name in names), None)

    def state(self) -> str:
        """Number of the files and a digest of their names, sizes and times of modification."""
        lines = []
        for path in self.files.values():
            place = str(path).removeprefix(str(self.path))
            lines.append(f"{place} {file_state(path)}")
        text = "\n".join(sorted(lines)).encode("utf-8", "surrogateescape")
        return f"{len(lines)} files {hashlib.sha256(text).hexdigest()[:_DIGITS]}"


class _Scan:
    """One walk through a folder; folders come before links to folders, so that each counts once."""

    def __init__(
        self, path: Path, suffixes: frozenset[str], without: Iterable[Path | None]
    ) -> None:
        self.path = path
        self.suffixes = suffixes
        self.files: dict[str, Path] = {}
        self.left_out: dict[str, list[str]] = {}
        self.seen = {identity for folder in without if (identity := _identity(folder))}
        self.without = frozenset(self.seen)
        self.links: deque[tuple[Path, str]] = deque()

    def run(self) -> Folder:
        self._walk(self.path, "")
        while self.links:
            self._walk(*self.links.popleft())
        return Folder(
            self.path,
            dict(sorted(self.files.items())),
            {reason: sorted(names) for reason, names in self.left_out.items()},
        )

    def _leave_out(self, reason: str, name: str) -> None:
        self.left_out.setdefault(reason, []).append(printable(name))

    def _walk(self, folder: Path, prefix: str) -> None:
        """Look through a folder whose names begin with `prefix`, and those in it."""
        waiting = [(folder, prefix)]
        while waiting:
            folder, prefix = waiting.pop()
            identity = _identity(folder)
            if identity in self.seen:
                if identity not in self.without:
                    self._leave_out(LINKED_TWICE, prefix)
                continue
            try:
                entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
            except OSError:
                self._leave_out(FORBIDDEN, prefix or ".")
                continue
            if identity:
                self.seen.add(identity)
            for entry in entries:
                name = prefix + normalised(_decoded(entry.name))
                if not _is_folder(entry):
                    self._file(entry, name)
                elif _is_hidden(entry.name):
                    self._leave_out(HIDDEN, f"{name}/")
                elif entry.is_symlink():
                    self.links.append((Path(entry.path), f"{name}/"))
                else:
                    waiting.append((Path(entry.path), f"{name}/"))

    def _file(self, entry: os.DirEntry[str], name: str) -> None:
        if entry.name == LABEL_MAP:
            return  # it is read, beside the masks
        reason = self._why_not(entry, name)
        if reason is None:
            self.files[name] = Path(entry.path)
        else:
            self._leave_out(reason, name)

    def _why_not(self, entry: os.DirEntry[str], name: str) -> str | None:
        suffix = PurePosixPath(name).suffix.lower()
        if _is_hidden(entry.name):
            return HIDDEN
        if suffix not in self.suffixes:
            if suffix in ARCHIVE_SUFFIXES:
                return ARCHIVES
            if suffix in UNREAD_SUFFIXES:
                return UNREAD
            return LOSSY if suffix in IMAGE_SUFFIXES else OTHER
        if not entry.is_file():
            return BROKEN
        if printable(name) != name:
            return UNDECODABLE
        return SAME_NAME if name in self.files else None


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:
        return False


def _is_hidden(name: str) -> bool:
    return name.startswith(".") or name.lower() in _SYSTEM


def _decoded(name: str) -> str:
    """A name as UTF-8, whatever the locale says; what is none stays as Python gave it."""
    try:
        return os.fsencode(name).decode("utf-8")
    except UnicodeDecodeError:
        return name


def _identity(folder: Path | None) -> tuple[int, int] | None:
    """What is the same for all paths that lead to a folder; None if there is none."""
    try:
        status = folder.stat() if folder is not None else None
    except OSError:
        return None
    return (status.st_dev, status.st_ino) if status else None


def images_below(folder: Path, out: Path | None = None) -> Folder:
    """Return the images below a folder; those below `out`, where results go, do not count.

    Raises InputError when there is no such folder, no image in it, or results would go among them.
    """
    if not folder.is_dir():
        raise InputError(
            f"{folder}: no such folder of images; give the folder that holds them, not a file"
        )
    if out is not None and _identity(out) == _identity(folder):
        raise InputError(
            f"{out}: the results would lie among the images; give `--out` a folder of its own, such"
            f" as {out / 'labelled'}"
        )
    found = Folder.scan(folder, IMAGE_SUFFIXES, without=[out])
    if not found.files:
        rest = f"; left out: {found.summary()}" if found.left_out else ""
        raise InputError(
            f"{folder}: holds no image{rest}. Read are {', '.join(sorted(IMAGE_SUFFIXES))}; convert"
            " others to JPEG or PNG."
        )
    found.tell()
    return found


def unique_names(names: Sequence[str], separator: str = "/") -> list[str]:
    """Return one name for the results of each file: its own without the suffix, `a/cat` for `a/cat.jpg`.

    Where that would be the name of another one too (`cat.jpg`, `cat.png`, `cat.jpg.png`) they keep their
    suffix, and where that does not suffice (`a/b` and `a_b` with the separator `_`) they are numbered in
    the order of their names. Names that differ in case only count as equal: not all disks tell them apart.
    Where a disk would not take a name with a suffix, it is cut and ends in a digest of itself.

    Args:
        names: Different names, with "/" between their parts.
        separator: What stands between the parts in the results.
    """
    full = [_short_enough(name.replace("/", separator)) for name in names]
    short = [_short_enough(_stem(name).replace("/", separator)) for name in names]
    # A wish is granted to the one who has no rival: nobody else's short or full name.
    rivals = Counter(name.casefold() for name in short)
    rivals.update(
        long.casefold()
        for long, brief in zip(full, short, strict=True)
        if long.casefold() != brief.casefold()
    )
    wished = [
        long if rivals[brief.casefold()] > 1 else brief
        for brief, long in zip(short, full, strict=True)
    ]
    taken: set[str] = set()
    result = [""] * len(names)
    for place in sorted(range(len(names)), key=lambda place: names[place]):
        name, number = wished[place], 1
        while name.casefold() in taken:
            number += 1
            name = f"{wished[place]}-{number}"
        taken.add(name.casefold())
        result[place] = name
    return result


def _stem(name: str) -> str:
    return PurePosixPath(name).with_suffix("").as_posix()


def _short_enough(name: str) -> str:
    """A name whose last part leaves room for a suffix in the 255 bytes that disks take."""
    path = PurePosixPath(name)
    last = path.name.encode()
    if len(last) <= _LONGEST_NAME:
        return name
    kept = last[:_KEPT_OF_LONG_NAME].decode("utf-8", "ignore")
    return path.with_name(f"{kept}~{hashlib.sha256(last).hexdigest()[:8]}").as_posix()


def file_path(name: str) -> Path:
    """Return a name as a path; where the locale is not UTF-8, Python could not write it otherwise."""
    return Path(os.fsdecode(name.encode("utf-8")))


def with_suffix_of(stem: Path, suffixes: Iterable[str]) -> Path:
    """Return the file that has this name and one of the suffixes, in small or capital letters.

    If there is none, the first suffix is what is missing.
    """
    choices = [stem.with_name(stem.name + suffix) for suffix in suffixes]
    for path in choices:
        for candidate in (
            path,
            path.with_name(stem.name + path.name.removeprefix(stem.name).upper()),
        ):
            if candidate.is_file():
                return candidate
    return choices[0]
