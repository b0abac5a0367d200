"""What all shards have in common: names, the stride of maps, and reads by many threads or workers at once."""

import json
import os
from pathlib import Path
from typing import Self

from workflow_scripts.errors import InputError

# In a run's folder: into how many parts its splits are cut now. Shards of earlier cuts stay where they are.
RECORD = "shards.json"
# Pixels of an image, in a row and in a column, to a cell of the maps that boundaries spread.
STRIDE = 4


def strided_size(height: int, width: int) -> tuple[int, int]:
    """Return rows and columns of an image's map at stride 4."""
    return -(-height // STRIDE), -(-width // STRIDE)


def shard_names(split: str, count: int) -> list[str]:
    """Return train-00, train-01 … for a number of shards, in order; as many digits as they need."""
    digits = max(2, len(str(count - 1)))
    return [f"{split}-{number:0{digits}d}" for number in range(count)]


def recorded_parts(run: Path) -> tuple[int, int] | None:
    """Parts that a run is cut into, and the most that were asked for; None without a record.

    Raises:
        InputError: The record is damaged.
    """
    path = run / RECORD
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        return int(record["parts"]), int(record["limit"])
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(
            f"{path}: not readable ({error!r}); delete it: the run is cut anew, and made anew where the "
            "parts are others"
        ) from None


def is_of_an_earlier_cut(shard: Path) -> bool:
    """Whether a file is a shard, {split}-{number}, and not among those of the record of its run.

    The run's folder is the nearest one above that has a record; without one every shard counts.

    Raises:
        InputError: The record is damaged.
    """
    split, dash, number = shard.stem.rpartition("-")
    if not (split and dash and number.isdigit()):
        return False
    run = next((one for one in shard.absolute().parents if (one / RECORD).is_file()), None)
    parts = recorded_parts(run) if run else None
    return parts is not None and shard.stem not in shard_names(split, parts[0])


class SharedFile:
    """A file open for positioned reads; also a context manager.

    Not a memory map: pages of a map count as memory of the process, which would grow with the file.
    Reads share no file position, so that threads and forked workers may use one object; a pickled
    one opens its file anew.

    Raises InputError when the file cannot be opened.
    """

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)
        self._descriptor = -1
        try:
            self._descriptor = os.open(self.path, os.O_RDONLY)
        except OSError as error:
            raise InputError(f"{self.path}: cannot be opened ({error.strerror})") from error

    def read_at(self, offset: int, size: int) -> bytes:
        """Return `size` bytes from `offset` on, fewer at the end of the file."""
        parts = []
        while size > 0 and (part := os.pread(self._descriptor, size, offset)):
            parts.append(part)
            offset += len(part)
            size -= len(part)
        return b"".join(parts)

    def close(self) -> None:
        """Close the file; may be called again."""
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)

    def __enter__(self) -> Self:
        """Return the object itself; the file is open already."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the file."""
        self.close()

    def __del__(self) -> None:
        """Close a file that its owner forgot."""
        self.close()

    def __reduce__(self) -> tuple[type[Self], tuple[Path]]:
        """Pickle the path alone."""
        return type(self), (self.path,)
