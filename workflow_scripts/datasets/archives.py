"""Extraction of tar and zip archives that may be hostile."""

import errno
import gzip
import lzma
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO

from workflow_scripts.datasets.progress import Progress
from workflow_scripts.errors import InputError
from workflow_scripts.storage.atomic import atomic_folder

CHUNK = 1 << 20
_DAMAGE = (
    tarfile.TarError,
    zipfile.BadZipFile,
    gzip.BadGzipFile,
    zlib.error,
    lzma.LZMAError,
    EOFError,
    NotImplementedError,
)


@dataclass(frozen=True, slots=True)
class Limits:
    """What an archive may at most become.

    Attributes:
        size: Bytes of all extracted files.
        members: Number of files and folders.
        ratio: Bytes of all files for each byte of the archive; looked at above `ratio_from` bytes,
            since a small archive of empty masks is no bomb.
        ratio_from: See `ratio`.
    """

    size: int = 64 << 30
    members: int = 1_000_000
    ratio: float = 100.0
    ratio_from: int = 64 << 20


@dataclass(frozen=True, slots=True)
class _Member:
    name: str
    kind: str
    open: Callable[[], IO[bytes] | None]


def extract(
    archive: Path,
    target: Path,
    wanted: Sequence[str] = ("",),
    limits: Limits | None = None,
    progress: Progress | None = None,
) -> None:
    """Extract an archive into a new folder, which appears complete or not at all.

    Every member is checked, wanted or not: a path that leaves the target, a link or a device file
    fails the extraction. Owners, permissions and times of the archive are not taken over.

    Args:
        archive: A tar archive (plain, gzip, bzip2, xz) or a zip archive.
        target: The folder to make; it must not exist.
        wanted: Path prefixes of the members to extract, for instance ("VOCdevkit/VOC2012",).
        limits: What the archive may become at most.
        progress: Called for each member.

    Raises:
        FileExistsError: The target exists.
        InputError: The archive is damaged, hostile, too large, or the disk is full.
    """
    if target.exists():
        raise FileExistsError(target)
    limits = limits or Limits()
    try:
        with atomic_folder(target) as temporary:
            _extract_all(archive, temporary, wanted, limits, progress)
    except _DAMAGE as error:
        raise InputError(
            f"{archive}: damaged, or not a tar or zip archive ({error}). Remove it and run again."
        ) from error
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise InputError(f"{archive}: cannot be extracted into {target} ({error})") from error
        raise InputError(
            f"{target.parent}: the disk is full while {archive} is extracted. Make room, or choose"
            " another folder (`download.folder`)."
        ) from error


def _extract_all(
    archive: Path,
    folder: Path,
    wanted: Sequence[str],
    limits: Limits,
    progress: Progress | None,
) -> None:
    prefixes = [PurePosixPath(prefix) for prefix in wanted]
    allowed = min(limits.size, max(limits.ratio_from, int(limits.ratio * archive.stat().st_size)))
    written = 0
    for number, member in enumerate(_members(archive), start=1):
        if number > limits.members:
            raise _refused(archive, member.name, f"it has more than {limits.members} members")
        path = _safe_path(archive, member)
        if progress is not None:
            progress(f"extract {archive.name}", number, None, "file")
        if not any(path.is_relative_to(prefix) for prefix in prefixes):
            continue
        place = folder / path
        if member.kind == "folder":
            place.mkdir(parents=True, exist_ok=True)
            continue
        place.parent.mkdir(parents=True, exist_ok=True)
        source = member.open()
        if source is None:
            raise _refused(archive, member.name, "it has no content")
        with source, place.open("wb") as stream:
            while chunk := source.read(CHUNK):
                written += len(chunk)
                if written > allowed:
                    raise _refused(
                        archive,
                        member.name,
                        f"it unpacks to more than {allowed} bytes ({limits.ratio:g} times its size,"
                        f" {limits.size} at most)",
                    )
                stream.write(chunk)


def _members(archive: Path) -> Iterator[_Member]:
    if zipfile.is_zipfile(archive) and not tarfile.is_tarfile(archive):
        yield from _zip_members(archive)
    else:
        yield from _tar_members(archive)


def _tar_members(archive: Path) -> Iterator[_Member]:
    with tarfile.open(archive, "r:*") as tar:
        while (info := tar.next()) is not None:
            # Of a hundred thousand members, tarfile would keep them all.
            tar.members.clear()  # type: ignore[attr-defined]
            if info.isdir():
                kind = "folder"
            elif info.isfile():
                kind = "file"
            elif info.issym() or info.islnk():
                kind = "link"
            else:
                kind = "device file"
            yield _Member(info.name, kind, lambda info=info: tar.extractfile(info))  # type: ignore[misc]


def _zip_members(archive: Path) -> Iterator[_Member]:
    with zipfile.ZipFile(archive) as zipped:
        for info in zipped.infolist():
            mode = info.external_attr >> 16 if info.create_system == 3 else 0
            if info.is_dir():
                kind = "folder"
            elif stat.S_ISLNK(mode):
                kind = "link"
            elif stat.S_IFMT(mode) not in (0, stat.S_IFREG):
                kind = "device file"
            elif info.flag_bits & 1:
                kind = "encrypted file"
            else:
                kind = "file"
            yield _Member(info.orig_filename, kind, lambda info=info: zipped.open(info))  # type: ignore[misc]


def _safe_path(archive: Path, member: _Member) -> PurePosixPath:
    """The member's path relative to the target; InputError if it must not be extracted."""
    if member.kind not in ("file", "folder"):
        raise _refused(archive, member.name, f"it is a {member.kind}")
    path = PurePosixPath(member.name)
    if path.is_absolute() or ".." in path.parts or "\\" in member.name or "\0" in member.name:
        raise _refused(archive, member.name, "its path leads out of the target folder")
    if not path.parts and member.kind == "file":
        raise _refused(archive, member.name, "it has no name")
    return path


def _refused(archive: Path, name: str, reason: str) -> InputError:
    return InputError(
        f"{archive}: not extracted because of its member {name!r}: {reason}. Nothing was kept. Use"
        " the publisher's archive, or extract it by hand and give the folder in the configuration."
    )
