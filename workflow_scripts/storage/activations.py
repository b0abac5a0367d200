"""Shards of class activations: two bytes a value, a quarter of the image's size or less, one file a shard.

The published methods make two maps of an image, each with k channels, one for each of the image's labels
in the index's order, and values in 0…1: one at stride 4, where boundaries spread it, and one of full
size, which thresholds cut into labels. The second is no enlargement of the first: it is aligned and
normalised in another way. A shard is a safetensors file; tensors of an image are, as its method needs:

- `{id}`, float16 [k, ceil(H/4), ceil(W/4)]: the map of stride 4; where there is nothing else, the map of
  full size is its enlargement (propagated and imported activations);
- `{id}//cells`, `{id}//sizes`, `{id}//peaks`: what both maps of CAM are made of (`storage/multi_scale.py`);
- `{id}//log_odds`, `{id}//scales`, `{id}//inside`: AMN's map of full size (`storage/stretched.py`).

Images are written and read one by one: neither holds more than one in memory.
"""

import json
import struct
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, NamedTuple, Protocol, Self, TypeVar

import numpy as np

from workflow_scripts.errors import InputError
from workflow_scripts.storage.atomic import atomic_path
from workflow_scripts.storage.enlargement import STRIDE, enlarge, strided_size
from workflow_scripts.storage.full_map import FullMap
from workflow_scripts.storage.multi_scale import MultiScaleMaps
from workflow_scripts.storage.positioned import PositionedFile
from workflow_scripts.storage.stretched import StretchedProbabilities

Full = TypeVar("Full", bound=FullMap)

_KINDS: tuple[type[FullMap], ...] = (MultiScaleMaps, StretchedProbabilities)
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
_STRIDED = ""
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

    With `strided`, each image has a map of stride 4, with `full` what a map of full size is made of. With
    `peaks`, values may exceed 1, as those of a map do whose *enlargement* is normalised: reading cuts
    what is left of that. The file appears under its name once the last image is written and the block
    left without an error. Wrong order, shape or values, and missing images or maps, raise ValueError.
    """

    def __init__(
        self,
        path: Path | str,
        records: Iterable[LabelledImage],
        strided: bool = True,
        full: type[FullMap] | None = None,
        peaks: bool = False,
    ) -> None:
        self._path = Path(path)
        self._kinds = strided, full
        self._highest = float(np.finfo(np.float16).max) if peaks else 1.0
        self._records = list(records)
        self._written = 0
        self._tensors: dict[str, _Tensor] = {}
        self._end = 0
        suffixes = ([_STRIDED] if strided else []) + _suffixes(full)
        self._room = _room_for_header([record.id for record in self._records], suffixes)
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
        if (strided is not None, None if full is None else type(full)) != self._kinds:
            raise ValueError(f"image {image_id!r}: a map is missing or one too many")
        if strided is not None:
            expected = activation_shape(record)
            if strided.shape != expected:
                raise ValueError(f"image {image_id!r}: shape {strided.shape}, expected {expected}")
            self._append(image_id, self._half(image_id, strided))
        if full is not None:
            for suffix, tensor in zip(_suffixes(type(full)), full.stored(), strict=True):
                if not np.isfinite(tensor).all():
                    raise ValueError(f"image {image_id!r}: activations must be finite numbers")
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


def _suffixes(kind: type[FullMap] | None) -> list[str]:
    """How the tensors' names end that a map of full size is stored in."""
    return [] if kind is None else [_MARK + name for name in kind.names]


def _header(tensors: dict[str, _Tensor]) -> bytes:
    entries = {name: tensor.entry() for name, tensor in tensors.items()}
    content = {_RESERVED_KEY: {"stride": str(STRIDE)}, **entries}
    return json.dumps(content, ensure_ascii=False, separators=(",", ":")).encode()


def _room_for_header(ids: Sequence[str], suffixes: Sequence[str]) -> int:
    """Bytes that suffice for the header of a shard, a multiple of 8.

    How long the regions of AMN's maps become is not known before they are written, nor where they end.
    """
    largest = {}
    for image_id in ids:
        if image_id == _RESERVED_KEY or image_id + suffixes[0] in largest:
            raise ValueError(f"image id {image_id!r} occurs twice or is reserved")
        for suffix in suffixes:
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

    def read_strided(self, image_id: str, height: int, width: int) -> np.ndarray:
        """Return the activation at stride 4 of an image of `height` × `width` pixels.

        It is float32[k, ceil(H/4), ceil(W/4)]. Raises InputError when the shard has no such image, one of
        another size, or its map of full size alone.
        """
        with self._fitting(image_id, height, width):
            if self._has(image_id, MultiScaleMaps):
                return self._restored(MultiScaleMaps, image_id, height, width).strided()
            strided = self._read(image_id, image_id).astype(np.float32)
            if strided.shape[1:] != strided_size(height, width):
                raise ValueError(f"its shape is {strided.shape}")
            return strided

    def read_full(self, image_id: str, height: int, width: int) -> np.ndarray:
        """Return the activation of an image of `height` × `width` pixels, float32[k, H, W] in 0…1.

        Raises InputError when the shard has no such image, or one of another size.
        """
        with self._fitting(image_id, height, width):
            for kind in _KINDS:
                if self._has(image_id, kind):
                    return self._restored(kind, image_id, height, width).activation()
            return enlarged(self._read(image_id, image_id), height, width)

    @contextmanager
    def _fitting(self, image_id: str, height: int, width: int) -> Iterator[None]:
        try:
            yield
        except ValueError as error:
            raise InputError(
                f"{self.path}: the activation of image {image_id!r} is not one of {width}×{height}"
                f" pixels ({error}). The index has changed, or the file is damaged: delete it, so"
                " that the stage that writes it runs again."
            ) from error

    def _has(self, image_id: str, kind: type[FullMap]) -> bool:
        return image_id + _suffixes(kind)[0] in self._tensors

    def _restored(self, kind: type[Full], image_id: str, height: int, width: int) -> Full:
        parts = [self._read(image_id + suffix, image_id) for suffix in _suffixes(kind)]
        return kind.restored(parts, height, width)

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
