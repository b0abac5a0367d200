"""Shards of stored features: one safetensors file a shard, two bytes a number.

Of an image, `{id}//{scale}` is float16 [views, C, n, n]: the features of a square view of it, and of the
view's mirror image where mirrors are kept. All sizes are known beforehand, and so is the size of the file.
Images are written and read one by one: neither holds more than one in memory.
"""

import json
import struct
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np

from workflow_scripts.errors import InputError
from workflow_scripts.storage.atomic import atomic_path
from workflow_scripts.storage.shard_files import SharedFile

HALF = np.dtype("<f2")
LARGEST = float(np.finfo(np.float16).max)


class FeatureShape(NamedTuple):
    """What is stored of every image.

    Attributes:
        channels: C.
        cells: n of each scale.
        views: 2 with mirror images, 1 without.
    """

    channels: int
    cells: tuple[int, ...]
    views: int

    def of_scale(self, number: int) -> tuple[int, int, int, int]:
        """Shape of one scale's features."""
        return self.views, self.channels, self.cells[number], self.cells[number]

    @property
    def bytes(self) -> int:
        """Bytes an image."""
        return HALF.itemsize * sum(
            int(np.prod(self.of_scale(number))) for number in range(len(self.cells))
        )


def _header(ids: Sequence[str], shape: FeatureShape, about: Mapping[str, Any]) -> bytes:
    entries: dict[str, Any] = {
        "__metadata__": {"features": json.dumps({**about, "shape": shape}, sort_keys=True)}
    }
    end = 0
    for image_id in ids:
        for number in range(len(shape.cells)):
            start, end = end, end + HALF.itemsize * int(np.prod(shape.of_scale(number)))
            entries[f"{image_id}//{number}"] = {
                "dtype": "F16",
                "shape": shape.of_scale(number),
                "data_offsets": (start, end),
            }
    content = json.dumps(entries, ensure_ascii=False, separators=(",", ":")).encode()
    return content + b" " * (-len(content) % 8)


class FeatureWriter:
    """Appends the features of images, in the order of their ids, to a file; see `feature_writer`."""

    def __init__(self, file: BinaryIO, ids: Sequence[str], shape: FeatureShape) -> None:
        self._file, self._ids, self._shape = file, ids, shape
        self.written = 0

    def write(self, image_id: str, features: Sequence[np.ndarray]) -> None:
        """Append an image's features float [views, C, n, n] of each scale.

        Raises:
            InputError: They are no numbers that half precision can hold.
        """
        if image_id != self._ids[self.written]:
            raise ValueError(f"got image {image_id!r}, expected {self._ids[self.written]!r}")
        for number, one in enumerate(features):
            if one.shape != self._shape.of_scale(number):
                raise ValueError(f"{one.shape} for {self._shape.of_scale(number)}")
            if not (np.abs(one) <= LARGEST).all():
                raise InputError(
                    f"image {image_id}: features are no numbers, or too large for half precision; leave "
                    "`features.cache` out for this network"
                )
            self._file.write(np.ascontiguousarray(one, HALF).tobytes())
        self.written += 1


@contextmanager
def feature_writer(
    path: Path, ids: Sequence[str], shape: FeatureShape, about: Mapping[str, Any]
) -> Iterator[FeatureWriter]:
    """A writer whose file appears under its name once all images are written.

    Args:
        path: The shard.
        ids: Ids of its images.
        shape: Of every image's features.
        about: What they are of (JSON), for readers to check.
    """
    with atomic_path(path) as temporary:
        with temporary.open("wb") as file:
            header = _header(ids, shape, about)
            file.write(struct.pack("<Q", len(header)) + header)
            writer = FeatureWriter(file, ids, shape)
            yield writer
        if writer.written < len(ids):
            raise ValueError(f"no features were written for image {ids[writer.written]!r}")


class FeatureReader(SharedFile):
    """Random access to one shard, by any number of workers.

    Attributes:
        ids: Its images.
        shape: Of every image's features.
        about: What they are of.
    """

    def __init__(self, path: Path | str) -> None:
        super().__init__(path)
        try:
            (length,) = struct.unpack("<Q", self.read_at(0, 8))
            if length > self.path.stat().st_size:
                raise ValueError("its head says nothing of features")
            header = json.loads(self.read_at(8, length))
            self.about: dict[str, Any] = json.loads(header.pop("__metadata__")["features"])
            channels, cells, views = self.about.pop("shape")
            self.shape = FeatureShape(channels, tuple(cells), views)
            self.ids = tuple(dict.fromkeys(name.rpartition("//")[0] for name in header))
            self._places = {name: entry["data_offsets"] for name, entry in header.items()}
            self._start = 8 + length
            if self.path.stat().st_size != self._start + self.shape.bytes * len(self.ids):
                raise ValueError("it is cut off")
        except (ValueError, KeyError, TypeError, struct.error) as error:
            self.close()
            raise InputError(
                f"{self.path}: no shard of features that can be read ({error}). Delete the file, so that "
                "`cache_features` runs again."
            ) from error

    def read(self, image_id: str, scale: int, mirrored: bool) -> np.ndarray:
        """Features float16 [C, n, n] of an image at a scale, given by its number."""
        start, _ = self._places[f"{image_id}//{scale}"]
        _, *shape = self.shape.of_scale(scale)
        size = HALF.itemsize * int(np.prod(shape))
        data = self.read_at(self._start + start + size * mirrored, size)
        return np.frombuffer(data, HALF).reshape(shape)
