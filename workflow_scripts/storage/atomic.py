"""Files and folders that appear whole or not at all."""

import glob
import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from zlib import crc32

# File systems take names of 255 bytes; what hidden files add to a name has at most 50.
LONGEST_NAME, CUT_NAME = 200, 190


def hidden_beside(final: Path, ending: str) -> Path:
    """`.{name}{ending}` beside a file or folder; a name that would become too long is cut and numbered."""
    name = os.fsencode(final.name)
    if len(name) <= LONGEST_NAME:
        return final.with_name(f".{final.name}{ending}")
    cut = name[:CUT_NAME].decode("utf-8", "ignore")
    return final.with_name(f".{cut}-{crc32(name):08x}{ending}")


@contextmanager
def _workshop(final: Path) -> Iterator[Path]:
    """Yield a new hidden folder beside `final`, which is gone afterwards."""
    final.parent.mkdir(parents=True, exist_ok=True)
    workshop = hidden_beside(final, f".{secrets.token_hex(4)}.partial")
    workshop.mkdir()
    try:
        yield workshop
    finally:
        shutil.rmtree(workshop, ignore_errors=True)


@contextmanager
def atomic_path(final: Path | str) -> Iterator[Path]:
    """Yield a path to write to; on success it becomes `final`, else it is removed.

    The path lies in a hidden folder of its own beside `final`: the rename is atomic, writers which look
    at the name find that of `final`, and what they put beside their file (safetensors writes by way of
    a temporary one) goes with the folder. Missing parent folders are made. Data and rename are synced
    to disk, so that neither a killed job nor a power cut leaves a half-written file under the final
    name.

    Raises whatever the body raises, and FileNotFoundError when the body wrote nothing.
    """
    final = Path(final)
    with _workshop(final) as workshop:
        temporary = workshop / final.name
        yield temporary
        sync(temporary)
        temporary.replace(final)
        sync(final.parent)


def written_so_far(final: Path) -> int:
    """Bytes of a file, or of what `atomic_path` has of it in other processes; 0 where there is nothing."""
    name = glob.escape(final.name)
    total = 0
    for path in [final] if final.exists() else final.parent.glob(f".{name}.*.partial/{name}"):
        with suppress(FileNotFoundError):
            total += path.stat().st_size
    return total


@contextmanager
def atomic_folder(final: Path) -> Iterator[Path]:
    """Yield an empty folder to write to; on success it replaces `final`, else it is removed.

    The files in it are not synced one by one: there may be a hundred thousand.
    """
    with _workshop(final) as workshop:
        yield workshop
        if final.exists():
            shutil.rmtree(final)
        workshop.rename(final)


def sync(path: Path) -> None:
    """Have the disk hold what a file or folder holds."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
