"""What tells cheaply whether files were changed: size and time, or content where it is small.

Times are whole seconds, which every way of copying that keeps times keeps (`cp -a`, `rsync -a`, tar).
"""

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

CHUNK = 1 << 20


def content_digest(*paths: Path) -> str:
    """Return the SHA-256 of the contents of files, one after another."""
    digest = hashlib.sha256()
    for path in paths:
        with path.open("rb") as file:
            while chunk := file.read(CHUNK):
                digest.update(chunk)
    return digest.hexdigest()


def file_state(path: Path) -> str:
    """Return size in bytes and modification time in seconds of a file, links followed."""
    return _state(path.stat())


def folder_state(
    folder: Path, suffixes: frozenset[str], without: Path | None = None
) -> tuple[int, str]:
    """Return number and digest of the files below a folder (see `files_below`): names, sizes and times."""
    lines = sorted(
        f"{entry.path.removeprefix(str(folder))} {_state(entry.stat())}"
        for entry in files_below(folder, suffixes, without)
    )
    text = "\n".join(lines).encode("utf-8", "surrogateescape")
    return len(lines), hashlib.sha256(text).hexdigest()


def _state(status: os.stat_result) -> str:
    return f"{status.st_size} {int(status.st_mtime)}"


def files_below(
    folder: Path, suffixes: frozenset[str], without: Path | None = None
) -> Iterator[os.DirEntry[str]]:
    """Yield the files below a folder; several times faster than `Path.rglob`.

    Args:
        folder: Its sub-folders count too; links to folders are not followed.
        suffixes: Endings, in lower case, of the files that count; hidden ones never do.
        without: A folder inside that does not count.
    """
    endings = tuple(suffixes)
    waiting = [str(folder)]
    while waiting:
        with os.scandir(waiting.pop()) as entries:
            for entry in entries:
                if entry.name.startswith("."):
                    continue
                if entry.is_dir(follow_symlinks=False):
                    if without is None or Path(entry.path) != without:
                        waiting.append(entry.path)
                elif entry.name.lower().endswith(endings) and entry.is_file():
                    yield entry
