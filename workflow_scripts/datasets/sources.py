"""From an archive's address to its extracted content, once for all runs."""

import errno
import fcntl
import hashlib
import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from urllib.parse import urlsplit

from workflow_scripts.datasets.archives import extract
from workflow_scripts.datasets.checksums import verify
from workflow_scripts.datasets.download import fetch
from workflow_scripts.datasets.progress import Progress
from workflow_scripts.errors import InputError
from workflow_scripts.settings.downloads import ArchiveSettings, DownloadSettings

logger = logging.getLogger(__name__)

_SUFFIXES = (".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".tar", ".zip")
_NO_LOCKS = {errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS, errno.EINVAL}


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
            f"{archive.address}: no such archive. An address begins with http:// or https://;"
            " anything else is the path of a file that is already here."
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
