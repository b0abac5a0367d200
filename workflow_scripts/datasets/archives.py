"""From an archive's address to its extracted content, once for all runs; the archive may be hostile."""

import errno
import fcntl
import gzip
import hashlib
import logging
import lzma
import shutil
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO
from urllib.parse import urlsplit

from workflow_scripts.datasets.download import (
    ArchiveSettings,
    DownloadSettings,
    fetch,
    verify,
)
from workflow_scripts.doors.dataset import Progress
from workflow_scripts.errors import InputError
from workflow_scripts.storage.atomic import atomic_folder

logger = logging.getLogger(__name__)

_DAMAGE = (
    tarfile.TarError,
    zipfile.BadZipFile,
    gzip.BadGzipFile,
    zlib.error,
    lzma.LZMAError,
    EOFError,
    NotImplementedError,
)
_SUFFIXES = (".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".tar", ".zip")
_NO_LOCKS = {errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS, errno.EINVAL}


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
    prefixes = [PurePosixPath(prefix) for prefix in wanted]
    gate = _Gate(archive, limits or Limits())
    zipped = zipfile.is_zipfile(archive) and not tarfile.is_tarfile(archive)
    members = _zip_members if zipped else _tar_members
    try:
        with atomic_folder(target) as folder:
            for number, (path, source) in enumerate(members(archive, folder, gate), start=1):
                if progress is not None:
                    progress(f"extract {archive.name}", number, None, "file")
                if source is None or not any(path.is_relative_to(prefix) for prefix in prefixes):
                    continue
                place = folder / path
                place.parent.mkdir(parents=True, exist_ok=True)
                with source, place.open("wb") as stream:
                    shutil.copyfileobj(source, stream)
    except _DAMAGE as error:
        raise InputError(
            f"{archive}: damaged, or not a tar or zip archive ({error}). Remove it and run again."
        ) from error
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise InputError(
                f"{archive}: cannot be extracted into {target} ({error}). Extract it by hand and"
                " give the folder in the configuration."
            ) from error
        raise InputError(
            f"{target.parent}: the disk is full while {archive} is extracted. Make room, or choose"
            " another folder (`download.folder`)."
        ) from error


class _Gate:
    """Lets members through, one after another, or refuses the whole archive.

    Sizes are those that the archive declares; tarfile and zipfile never give more bytes than that.
    """

    def __init__(self, archive: Path, limits: Limits) -> None:
        self._archive = archive
        self._limits = limits
        size = archive.stat().st_size if archive.exists() else 0
        self._allowed = min(limits.size, max(limits.ratio_from, int(limits.ratio * size)))
        self._members = self._bytes = 0

    def admit(self, name: str, kind: str, size: int) -> PurePosixPath:
        """Return the path of a member ("file" or "folder" in `kind`); InputError for any other."""
        self._members += 1
        self._bytes += size
        if self._members > self._limits.members:
            raise self.refused(name, f"it has more than {self._limits.members} members")
        if kind not in ("file", "folder"):
            raise self.refused(name, f"it is a {kind}")
        path = PurePosixPath(name)
        if path.is_absolute() or ".." in path.parts or "\\" in name or "\0" in name:
            raise self.refused(name, "its path leads out of the target folder")
        if not path.parts and kind == "file":
            raise self.refused(name, "it has no name")
        if self._bytes > self._allowed:
            raise self.refused(
                name,
                f"it unpacks to more than {self._allowed} bytes ({self._limits.ratio:g} times its"
                f" size, {self._limits.size} at most)",
            )
        return path

    def refused(self, name: str, reason: str) -> InputError:
        return InputError(
            f"{self._archive}: not extracted because of its member {name!r}: {reason}. Nothing was"
            " kept. Use the publisher's archive, or extract it by hand and give the folder in the"
            " configuration."
        )


_Members = Iterator[tuple[PurePosixPath, IO[bytes] | None]]


def _tar_members(archive: Path, folder: Path, gate: _Gate) -> _Members:
    """Yield the path of each member of a tar archive, and its content if it is a file."""
    with tarfile.open(archive, "r:*") as tar:
        while (info := tar.next()) is not None:
            # Of a hundred thousand members, tarfile would keep them all.
            tar.members.clear()  # type: ignore[attr-defined]
            kind = "folder" if info.isdir() else "file" if info.isfile() else "device file"
            kind = "link" if info.issym() or info.islnk() else kind
            path = gate.admit(info.name, kind, info.size)
            # What Python itself holds to be unsafe is refused too.
            tarfile.data_filter(info, str(folder))
            yield path, tar.extractfile(info)


def _zip_members(archive: Path, folder: Path, gate: _Gate) -> _Members:
    """Yield the path of each member of a zip archive, and its content if it is a file."""
    with zipfile.ZipFile(archive) as zipped:
        for info in zipped.infolist():
            mode = info.external_attr >> 16 if info.create_system == 3 else 0
            kind = "folder" if info.is_dir() else "encrypted file" if info.flag_bits & 1 else "file"
            if stat.S_ISLNK(mode):
                kind = "link"
            elif stat.S_IFMT(mode) not in (0, stat.S_IFREG, stat.S_IFDIR):
                kind = "device file"
            path = gate.admit(info.orig_filename, kind, info.file_size)
            yield path, None if info.is_dir() else zipped.open(info)


def obtain(
    archive: ArchiveSettings,
    download: DownloadSettings,
    wanted: Sequence[str] = ("",),
    progress: Progress | None = None,
) -> Path:
    """Return the folder with an archive's content; fetch, verify and extract it where needed.

    The folder's name holds the archive's identity, so that another version gets another folder.
    Runs that start at the same time wait for each other.

    Args:
        archive: Address (or local path) and checksum.
        download: Folder, attempts, timeout, pause.
        wanted: Path prefixes of the members to extract.
        progress: Called as the work goes on.

    Raises:
        InputError: As `download.fetch` and `archives.extract`; or a local archive is missing.
    """
    folder = Path(download.folder)
    local = "://" not in archive.address
    name = PurePosixPath(archive.address if local else urlsplit(archive.address).path).name
    if not name:
        raise InputError(f"{archive.address!r}: the address of an archive must end in a file name")
    content = folder / f"{_stem(name)}-{_identity(archive, local)}"
    if content.is_dir():
        return content
    with _locked(folder / f".{content.name}.lock"):
        if content.is_dir():
            return content
        if local:
            packed = Path(archive.address)
            verify(packed, archive.checksum, "nowhere: a local file")
        else:
            packed = folder / name
            if packed.exists():
                verify(packed, archive.checksum, archive.address)
            else:
                logger.info("Fetching %s into %s", archive.address, packed)
                fetch(archive.address, packed, archive.checksum, download, progress)
        logger.info("Extracting %s into %s", packed, content)
        extract(packed, content, wanted, progress=progress)
        if not local and not download.keep_archives:
            packed.unlink()
    return content


def _stem(name: str) -> str:
    for suffix in _SUFFIXES:
        if name.endswith(suffix) and name != suffix:
            return name.removesuffix(suffix)
    return name


def _identity(archive: ArchiveSettings, local: bool) -> str:
    """Eight hexadecimal digits that differ between versions of an archive."""
    if local and not Path(archive.address).is_file():
        raise InputError(
            f"{archive.address}: no such archive. Correct the path of the file, or give an address,"
            " which begins with http:// or https://."
        )
    if archive.checksum:
        return archive.checksum.partition(":")[2][:8]
    version = archive.address
    if local:
        state = Path(archive.address).stat()
        version = f"{version} {state.st_size} {state.st_mtime_ns}"
    return hashlib.sha256(version.encode()).hexdigest()[:8]


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Hold an exclusive lock, on file systems that have locks."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        stream = path.open("w")
    except OSError as error:
        raise InputError(
            f"{path.parent}: cannot be written to ({error.strerror}). Choose another folder"
            " (`download.folder`)."
        ) from error
    with stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX)
        except OSError as error:
            if error.errno not in _NO_LOCKS:
                raise
        yield
