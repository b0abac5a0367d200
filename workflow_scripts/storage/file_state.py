"""What tells cheaply whether files were changed: size and time, or content where it is small.

Times are whole seconds, which every way of copying that keeps times keeps (`cp -a`, `rsync -a`, tar).
"""

import hashlib
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
    status = path.stat()
    return f"{status.st_size} {int(status.st_mtime)}"
