"""Shards of class activations: two bytes a value, a quarter of the image's size, one file a shard.

A shard is a safetensors file. The published methods make two maps of an image, each with k channels, one
for each of the image's labels in the index's order, and values in 0…1: one at stride 4, where boundaries
spread it, and one of full size, which thresholds cut into labels. The second is no enlargement of the
first: it is aligned and normalised in another way. Tensors of an image:

- `{id}`, float16 [k, ceil(H/4), ceil(W/4)]: the map of stride 4; without the next ones, the map of full
  size is its enlargement;
- `{id}//full`, float16 of the same shape: the map whose enlargement comes closest to that of full size;
- `{id}//log_odds`, `{id}//scales`, `{id}//inside`: in its place, AMN's map of full size (see
  `storage/stretched.py`).

Images are written and read one by one: neither holds more than one in memory.
"""

import json
import struct
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, NamedTuple, Protocol, Self

import numpy as np

from workflow_scripts.errors import InputError
from workflow_scripts.storage.atomic import atomic_path
from workflow_scripts.storage.enlargement import STRIDE, enlarge, reduce, strided_size
from workflow_scripts.storage.positioned import PositionedFile
from workflow_scripts.storage.stretched import StoredStretch, StretchedProbabilities

FullMap = np.ndarray | StretchedProbabilities
"""A map of full size before it is stored: float32 [k, H, W] in 0…1, or AMN's."""

_RESERVED_KEY = "__metadata__"
_TYPES: dict[str, np.dtype[Any]] = {
    "F16": np.dtype("<f2"),
    "F32": np.dtype("<f4"),
    "U16": np.dtype("<u2"),
    "U8": np.dtype("u1"),
}
_NAMES = {dtype: name for name, dtype in _TYPES.items()}
# No path holds two slashes in a row, so no image has such a name.
_MARK = "//"
_STRIDED, _FULL = "", f"{_MARK}full"
_STRETCHED = tuple(_MARK + name for name in StoredStretch._fields)
# More than any shard holds: the room for its header is reckoned with it.
_HUGE = 10**15


class LabelledImage(Protocol):
    """What a writer needs to know of an image; rows of the index satisfy it."""

    @property
    def id(self) -> str:
        """Name of the image, unique in its dataset."""

    @property
    def width(self) -> int:
        """Pixels in a row."""

    @property
    def height(self) -> int:
        """Number of rows."""

    @property
    def labels(self) -> Sequence[int]:
        """Classes in the image, from 1."""


def activation_shape(record: LabelledImage) -> tuple[int, int, int]:
    """Return the shape [labels, rows, columns] of an image's map at stride 4."""
    return len(record.labels), *strided_size(record.height, record.width)


class _Tensor(NamedTuple):
    dtype: str
    shape: tuple[int, ...]
    start: int
    end: int

    def entry(self) -> dict[str, object]:
        """What the header says of it."""
        return {
            "dtype": self.dtype,
            "shape": self.shape,
            "data_offsets": (self.start, self.end),
        }


class ActivationWriter:
    """Context manager that appends the activations of `records`, in their order, to one shard.

    With `strided`, each image has a map of stride 4, with `full` one of full size. With `peaks`, values may
    exceed 1, as those of a map do whose *enlargement* is normalised: reading cuts what is left of that.
    The file appears under its name once the last image is written and the block left without an error.
    Wrong order, shape or values, and missing images or maps, raise ValueError.
    """

    def __init__(
        self,
        path: Path | str,
        records: Iterable[LabelledImage],
        strided: bool = True,
        full: bool = False,
        peaks: bool = False,
    ) -> None:
        self._path = Path(path)
        self._kinds = strided, full
        kinds = (_STRIDED,) * strided + (_FULL, *_STRETCHED) * full
        self._highest = float(np.finfo(np.float16).max) if peaks else 1.0
        self._records = list(records)
        self._written = 0
        self._tensors: dict[str, _Tensor] = {}
        self._end = 0
        self._room = _room_for_header([record.id for record in self._records], kinds)
        self._stack = ExitStack()
        self._file: BinaryIO

    def __enter__(self) -> Self:
        """Open a new file beside the final one, and leave room for its header."""
        temporary = self._stack.enter_context(atomic_path(self._path))
        self._file = self._stack.enter_context(temporary.open("wb"))
        self._file.write(struct.pack("<Q", self._room) + b" " * self._room)
        return self

    def write(
        self, image_id: str, strided: np.ndarray | None = None, full: FullMap | None = None
    ) -> None:
        """Append the maps of the next image; which, says the constructor.

        Args:
            image_id: Its id.
            strided: Its map of stride 4, float[k, ceil(H/4), ceil(W/4)].
            full: Its map of full size.
        """
        if self._written == len(self._records):
            raise ValueError(f"{self._path}: image {image_id!r} comes after the last one")
        record = self._records[self._written]
        if image_id != record.id:
            raise ValueError(f"{self._path}: got image {image_id!r}, expected {record.id!r}")
        if (strided is not None, full is not None) != self._kinds:
            raise ValueError(f"image {image_id!r}: a map is missing or one too many")
        maps = {} if strided is None else {_STRIDED: self._half(image_id, strided)}
        if isinstance(full, StretchedProbabilities):
            maps |= dict(zip(_STRETCHED, full.stored(), strict=True))
        elif full is not None:
            maps[_FULL if maps else _STRIDED] = self._half(image_id, _closest(full))
        shape = activation_shape(record)
        for suffix, tensor in maps.items():
            if tensor.ndim == len(shape) and tensor.shape != shape:
                raise ValueError(f"image {image_id!r}: shape {tensor.shape}, expected {shape}")
            self._append(image_id + suffix, tensor)
        self._written += 1

    def _half(self, image_id: str, activation: np.ndarray) -> np.ndarray:
        half = activation.astype("<f2")
        if half.size and not (half.min() >= 0 and half.max() <= self._highest):
            raise ValueError(f"image {image_id!r}: activations must be numbers from 0 to 1")
        return half

    def _append(self, name: str, tensor: np.ndarray) -> None:
        start, self._end = self._end, self._end + tensor.nbytes
        self._tensors[name] = _Tensor(_NAMES[tensor.dtype], tensor.shape, start, self._end)
        self._file.write(np.ascontiguousarray(tensor).tobytes())

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Write the header and give the file its name, or remove it after an error."""
        if error is None and self._written < len(self._records):
            missing = self._records[self._written].id
            error = ValueError(f"{self._path}: no activation was written for image {missing!r}")
            self._stack.__exit__(ValueError, error, None)
            raise error
        if error is None:
            self._file.seek(8)
            self._file.write(_header(self._tensors))
        self._stack.__exit__(kind, error, trace)


def _closest(full: np.ndarray) -> np.ndarray:
    return np.clip(reduce(full), 0, 1)


def _header(tensors: dict[str, _Tensor]) -> bytes:
    entries = {name: tensor.entry() for name, tensor in tensors.items()}
    content = {_RESERVED_KEY: {"stride": str(STRIDE)}, **entries}
    return json.dumps(content, ensure_ascii=False, separators=(",", ":")).encode()


def _room_for_header(ids: Sequence[str], kinds: Sequence[str]) -> int:
    """Bytes that suffice for the header of a shard, a multiple of 8; `kinds` are suffixes of tensors.

    How long the regions of AMN's maps become is not known before they are written, nor where they end.
    """
    largest = {}
    for image_id in ids:
        if image_id == _RESERVED_KEY or image_id + kinds[0] in largest:
            raise ValueError(f"image id {image_id!r} occurs twice or is reserved")
        for suffix in kinds:
            largest[image_id + suffix] = _Tensor("F16", (_HUGE, 65535, 65535), _HUGE, _HUGE)
    return -(-len(_header(largest)) // 8) * 8


class ActivationReader(PositionedFile):
    """Random access to one shard, by any number of threads and workers; also a context manager.

    Raises InputError when the file is missing, truncated or no activation shard.
    """

    def __init__(self, path: Path | str) -> None:
        super().__init__(path)
        try:
            self._start, self._tensors = self._read_header()
        except (ValueError, KeyError, TypeError, AttributeError, struct.error) as error:
            self.close()
            raise InputError(
                f"{self.path}: not a complete activation shard ({error}). Delete the file, so that"
                " the stage that writes it runs again."
            ) from error

    @property
    def ids(self) -> tuple[str, ...]:
        """Ids of the images, in the order in which they were written."""
        return tuple(dict.fromkeys(name.partition(_MARK)[0] for name in self._tensors))

    def read(self, image_id: str) -> np.ndarray:
        """Return the activation of an image at stride 4, float32[k, ceil(H/4), ceil(W/4)].

        Raises InputError when the shard has no such image, or its map of full size alone.
        """
        return self._read(image_id, image_id).astype(np.float32)

    def read_full(self, image_id: str, height: int, width: int) -> np.ndarray:
        """Return the activation of an image of `height` × `width` pixels, float32[k, H, W] in 0…1.

        Raises InputError when the shard has no such image, or one of another size.
        """
        try:
            if image_id + _STRETCHED[0] in self._tensors:
                stored = StoredStretch(*(self._read(image_id + s, image_id) for s in _STRETCHED))
                return StretchedProbabilities.restored(stored, height, width).activation()
            name = image_id + _FULL if image_id + _FULL in self._tensors else image_id
            return enlarged(self._read(name, image_id), height, width)
        except ValueError as error:
            raise InputError(
                f"{self.path}: the activation of image {image_id!r} is not one of {width}×{height}"
                f" pixels ({error}). The index has changed, or the file is damaged: delete it, so"
                " that the stage that writes it runs again."
            ) from error

    def _read(self, name: str, image_id: str) -> np.ndarray:
        try:
            dtype, shape, start, end = self._tensors[name]
        except KeyError:
            raise InputError(
                f"{self.path}: no activation of image {image_id!r}. The index or the configuration"
                " has changed since the file was written: delete it, so that the stage that writes"
                " it runs again."
            ) from None
        data = self.read_at(self._start + start, end - start)
        return np.frombuffer(data, _TYPES[dtype]).reshape(shape)

    def _read_header(self) -> tuple[int, dict[str, _Tensor]]:
        size = self.path.stat().st_size
        (length,) = struct.unpack("<Q", self.read_at(0, 8))
        if 8 + length > size:
            raise ValueError("the header is cut off")
        header = json.loads(self.read_at(8, length))
        if header.pop(_RESERVED_KEY).get("stride") != str(STRIDE):
            raise ValueError(f"activations are not of stride {STRIDE}")
        tensors = {}
        end = 0
        for name, tensor in header.items():
            begin, end = tensor["data_offsets"]
            if tensor["dtype"] not in _TYPES:
                raise ValueError(f"tensor {name!r} is of type {tensor['dtype']}")
            tensors[name] = _Tensor(tensor["dtype"], tuple(tensor["shape"]), begin, end)
        if 8 + length + end != size:
            raise ValueError(f"{size} bytes, {8 + length + end} expected")
        return 8 + length, tensors


def enlarged(activation: np.ndarray, height: int, width: int) -> np.ndarray:
    """The activation of full size that one of stride 4 stands for: its enlargement, cut at 1."""
    large = enlarge(activation, height, width)
    return np.minimum(large, np.float32(1), out=large)


def as_stored(full: FullMap) -> np.ndarray:
    """Return the activation that comes back from a shard, so that the same pixels cross a threshold."""
    if isinstance(full, StretchedProbabilities):
        return StretchedProbabilities.restored(full.stored(), *full.inside.shape).activation()
    return enlarged(_closest(full).astype(np.float16), *full.shape[1:])
