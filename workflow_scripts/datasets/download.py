"""Downloads that survive broken connections and appear under their name only when verified.

Checksums are written as "md5:…" or "sha256:…".
"""

import errno
import hashlib
import json
import logging
import shutil
import ssl
import time
import urllib.error
import urllib.request
from dataclasses import dataclass
from email.message import Message
from http.client import HTTPException, InvalidURL
from pathlib import Path
from typing import Any

from pydantic import Field, field_validator

from workflow_scripts.doors.dataset import Progress
from workflow_scripts.errors import InputError
from workflow_scripts.settings.base import Settings, expanded
from workflow_scripts.storage.atomic import sync

logger = logging.getLogger(__name__)

CHUNK = 1 << 18
LONGEST_PAUSE = 60.0
_TEMPORARY_STATUS = {408, 425, 429, 500, 502, 503, 504}
_LOCAL_ERRORS = {errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EPERM, errno.EROFS, errno.EFBIG}

ADDRESS = (
    "Where the archive is: an http or https address, or the path of a file that is already here."
)
CHECKSUM = (
    "What the archive must hash to: `md5:` or `sha256:` and hexadecimal digits. Empty: its content"
    " is not checked."
)
CHECKSUM_PATTERN = r"^(md5:[0-9a-f]{32}|sha256:[0-9a-f]{64})?$"


class ArchiveSettings(Settings):
    """One archive. A dataset derives its archives from this and gives both fields their default."""

    address: str = Field(description=ADDRESS, min_length=1)
    checksum: str = Field(description=CHECKSUM, pattern=CHECKSUM_PATTERN)

    @field_validator("address")
    @classmethod
    def _expanded(cls, address: str) -> str | None:
        return address if "://" in address else expanded(address)


class DownloadSettings(Settings):
    """How archives are fetched and where they are kept."""

    folder: str = Field(
        default="data",
        min_length=1,
        description=(
            "Folder for archives and their extracted content. All runs share it: what is there"
            " already is not fetched again."
        ),
    )
    attempts: int = Field(
        default=5,
        ge=1,
        le=100,
        description=(
            "Attempts in a row without a single new byte after which a download is given up."
        ),
    )
    timeout: float = Field(
        default=60.0,
        gt=0,
        description="Seconds of silence after which a connection counts as dead.",
    )
    pause: float = Field(
        default=1.0,
        ge=0,
        description=(
            "Seconds to wait before the second attempt; twice as long before each further one, up"
            " to a minute."
        ),
    )
    keep_archives: bool = Field(
        default=True,
        description="Keep an archive after its extraction. `false` saves half of the disk space.",
    )

    @field_validator("folder")
    @classmethod
    def _expanded(cls, folder: str) -> str | None:
        return expanded(folder)


def file_checksum(path: Path, kind: str) -> str:
    """Return the checksum of a file with its kind in front; `kind` is "md5" or "sha256"."""
    with path.open("rb") as stream:
        # Checksums here tell damage, not attacks; MD5 is what the publishers give.
        digest = hashlib.file_digest(stream, lambda: hashlib.new(kind, usedforsecurity=False))
    return f"{kind}:{digest.hexdigest()}"


def verify(path: Path, checksum: str, origin: str) -> None:
    """Raise InputError unless the file has the checksum; "" is always right."""
    if not checksum:
        return
    actual = file_checksum(path, checksum.partition(":")[0])
    if actual != checksum:
        raise InputError(
            f"{path}: wrong checksum\n  fetched from: {origin}\n  expected:     {checksum}\n"
            f"  actual:       {actual}\nThe file is damaged or another version. Put the right one in its"
            " place, or, if it is the one you mean, give its checksum in the configuration."
        )


class _Interrupted(Exception):
    """The transfer stopped early; another attempt may go on from where it is."""

    def __init__(self, reason: str, retry_after: float = 0.0) -> None:
        super().__init__(reason)
        self.retry_after = retry_after


@dataclass(frozen=True)
class _Partial:
    """The bytes that have arrived so far, and which version of the remote file they belong to."""

    data: Path
    note: Path

    @classmethod
    def beside(cls, target: Path) -> "_Partial":
        return cls(
            target.with_name(f".{target.name}.part"), target.with_name(f".{target.name}.part.json")
        )

    def size(self) -> int:
        return self.data.stat().st_size if self.data.exists() else 0

    def validator(self, address: str) -> str | None:
        """Version that the bytes belong to; None if it is unknown or the address was another."""
        try:
            note = json.loads(self.note.read_text(encoding="utf-8"))
            return note["validator"] if note["address"] == address else None
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def remember(self, address: str, headers: Message) -> None:
        etag = headers.get("ETag", "")
        # A weak tag says nothing about bytes; If-Range does not take it (RFC 9110, 13.1.5).
        validator = etag if etag.startswith('"') else headers.get("Last-Modified", "")
        text = json.dumps({"address": address, "validator": validator})
        self.note.write_text(text, encoding="utf-8")

    def discard(self) -> None:
        self.data.unlink(missing_ok=True)
        self.note.unlink(missing_ok=True)


def fetch(
    address: str,
    target: Path,
    checksum: str = "",
    settings: DownloadSettings | None = None,
    progress: Progress | None = None,
) -> None:
    """Download a file; `target` appears when all of it has arrived and its checksum is right.

    An interrupted transfer goes on where it stopped (HTTP Range, guarded by If-Range), within this
    call and in a later one. Waiting times double; attempts are counted since the last new byte. A
    file with a wrong checksum is fetched once more from the start, in case it changed on the way.

    Args:
        address: An http or https address.
        target: The final name. What has arrived lies beside it, hidden, until then.
        checksum: "md5:…" or "sha256:…"; "" checks the length alone.
        settings: Attempts, timeout and pause.
        progress: Called as bytes arrive.

    Raises:
        InputError: The address cannot be fetched, the checksum is wrong, or the disk is full. The
            message names address, file, and the expected and actual checksum.
    """
    settings = settings or DownloadSettings()
    if not address.startswith(("http://", "https://")):
        raise InputError(
            f"{address}: not an address that can be fetched; give one that begins with http:// or https://"
        )
    partial = _Partial.beside(target)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        _fetch_verified(address, target, partial, checksum, settings, progress)
        sync(partial.data)
        partial.data.replace(target)
        sync(target.parent)
        partial.discard()
    except OSError as error:
        raise _local_error(error, address, target) from error


def _fetch_verified(
    address: str,
    target: Path,
    partial: _Partial,
    checksum: str,
    settings: DownloadSettings,
    progress: Progress | None,
) -> None:
    """Fill `partial` until it is complete and right."""
    for last in (False, True):
        _fetch_all(address, target, partial, settings, progress)
        kind = checksum.partition(":")[0]
        actual = file_checksum(partial.data, kind) if checksum else ""
        if actual == checksum:
            return
        partial.discard()
        if last:
            raise InputError(
                f"{address}: wrong checksum, twice\n  file:     {target} (not written)\n"
                f"  expected: {checksum}\n  actual:   {actual}\nThe file on the server is damaged or"
                " another version. Use another address, fetch the file by hand and give its path as"
                " the address, or give the new checksum in the configuration."
            )
        logger.warning("%s: expected %s, got %s: fetching it anew", address, checksum, actual)


def _fetch_all(
    address: str,
    target: Path,
    partial: _Partial,
    settings: DownloadSettings,
    progress: Progress | None,
) -> None:
    """Try until `partial` is complete, or no attempt brings anything new."""
    furthest = partial.size()
    failures = 0
    while True:
        try:
            _attempt(address, target, partial, settings.timeout, progress)
            return
        except _Interrupted as interruption:
            failures = 0 if partial.size() > furthest else failures + 1
            furthest = max(furthest, partial.size())
            if failures >= settings.attempts:
                raise InputError(
                    f"{address}: download failed: {interruption}\n  file: {target} (not written;"
                    f" {partial.size()} bytes are kept beside it)\nGave up after {failures} attempts"
                    " without a new byte. Run again to go on from there, or fetch the file by hand"
                    " and give its path as the address."
                ) from interruption
            pause = min(settings.pause * 2 ** max(failures - 1, 0), LONGEST_PAUSE)
            pause = max(pause, min(interruption.retry_after, LONGEST_PAUSE))
            logger.warning("%s: %s; trying again in %.0f s", address, interruption, pause)
            time.sleep(pause)


def _attempt(
    address: str, target: Path, partial: _Partial, timeout: float, progress: Progress | None
) -> None:
    """Make one request and write what comes; _Interrupted if anything is missing at its end."""
    validator = partial.validator(address)
    if validator is None:
        partial.discard()
    start = partial.size()
    headers = {"User-Agent": "wsss-amn-workflow", "Accept-Encoding": "identity"}
    if start:
        headers["Range"] = f"bytes={start}-"
        if validator:
            headers["If-Range"] = validator
    try:
        request = urllib.request.Request(address, headers=headers)
        with urllib.request.urlopen(request, timeout=timeout) as response:
            start, total = _position(response, start)
            partial.remember(address, response.headers)
            _check_space(target, address, start, total)
            _receive(response, partial.data, start, total, target.name, progress)
    except urllib.error.HTTPError as error:
        _explain_status(error, address, target, partial)
    except InvalidURL as error:
        raise InputError(f"{address}: not a valid address ({error}); correct it") from error
    except urllib.error.URLError as error:
        if isinstance(error.reason, ssl.SSLCertVerificationError):
            raise InputError(
                f"{address}: the server's certificate cannot be verified ({error.reason}). Fetch the"
                f" file by hand and give its path as the address; it was to become {target}."
            ) from error
        raise _Interrupted(f"no connection ({error.reason})") from error
    except HTTPException as error:
        raise _Interrupted(f"the connection broke ({error!r})") from error
    except OSError as error:
        if error.errno in _LOCAL_ERRORS:
            raise
        raise _Interrupted(f"the connection broke ({error})") from error


def _position(response: Any, start: int) -> tuple[int, int | None]:
    """Where the response's bytes belong in the file, and the file's size if it is known."""
    if response.status == 206:
        unit, _, rest = response.headers.get("Content-Range", "").partition(" ")
        span, _, total = rest.partition("/")
        if unit != "bytes" or span.partition("-")[0] != str(start):
            raise HTTPException(f"unexpected Content-Range: {unit} {rest}")
        return start, int(total) if total.isdigit() else None
    length = response.headers.get("Content-Length", "")
    return 0, int(length) if length.isdigit() else None


def _receive(
    response: Any,
    data: Path,
    start: int,
    total: int | None,
    name: str,
    progress: Progress | None,
) -> None:
    size = start
    with data.open("r+b" if data.exists() else "wb") as stream:
        stream.truncate(start)
        stream.seek(start)
        while chunk := response.read(CHUNK):
            stream.write(chunk)
            size += len(chunk)
            if progress is not None:
                progress(f"fetch {name}", size, total, "B")
    if total is not None and size < total:
        raise _Interrupted(f"the connection was closed after {size} of {total} bytes")


def _explain_status(
    error: urllib.error.HTTPError, address: str, target: Path, partial: _Partial
) -> None:
    """Return if the file is complete; else raise _Interrupted or InputError."""
    if error.code == 416:
        total = error.headers.get("Content-Range", "").rpartition("/")[2]
        if total == str(partial.size()):
            return
        partial.discard()
        raise _Interrupted("the server has another version of the file: starting anew")
    if error.code in _TEMPORARY_STATUS:
        wait = error.headers.get("Retry-After", "")
        raise _Interrupted(
            f"HTTP {error.code} {error.reason}", float(wait) if wait.isdigit() else 0
        )
    raise InputError(
        f"{address}: HTTP {error.code} {error.reason}\n  file: {target} (not written)\nCorrect the"
        " address, or fetch the file by hand and give its path as the address."
    ) from error


def _check_space(target: Path, address: str, start: int, total: int | None) -> None:
    free = shutil.disk_usage(target.parent).free
    if total is not None and total - start > free:
        raise InputError(
            f"{target.parent}: {free} bytes are free, {total - start} are needed for {address}. Make"
            " room, or choose another folder (`download.folder`)."
        )


def _local_error(error: OSError, address: str, target: Path) -> InputError:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        advice = "The disk is full: make room, or choose another folder (`download.folder`)."
    else:
        advice = "Choose a folder that can be written to (`download.folder`)."
    return InputError(
        f"{target}: cannot be written ({error.strerror or error})\n  fetched from: {address}\n{advice}"
    )
