"""Checksums of files, written as "md5:…" or "sha256:…"."""

import hashlib
from pathlib import Path

from workflow_scripts.errors import InputError


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
