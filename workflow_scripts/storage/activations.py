"""Shards of class activations: one file a shard, two bytes a value.

Of an image, the published methods use two maps with k channels, one for each of its labels in the index's
order, and values in 0…1: one of stride 4, where boundaries spread it, and one of full size, which
thresholds cut into labels. The second is no enlargement of the first: it is aligned and normalised in
another way. A shard is a safetensors file; what it holds of an image gives both:

- `{id}//cells` and more: what a network's activations are made of (`storage/activation_maps.py`);
- or `{id}`, float16 [k, ceil(H/4), ceil(W/4)]: the map of stride 4, whose enlargement is that of full size
  (propagated and imported activations).

Images are written and read one by one: neither holds more than one in memory.
"""

import json
import struct
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, NamedTuple, Protocol, Self

import numpy as np

from workflow_scripts.errors import InputError
from workflow_scripts.storage.activation_maps import ActivationMaps, AmnMaps, CamMaps, enlarge
from workflow_scripts.storage.atomic import atomic_path
from workflow_scripts.storage.shard_files import SharedFile, strided_size

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
_KINDS: dict[str, type[ActivationMaps]] = {maps.kind: maps for maps in (CamMaps, AmnMaps)}
_STRIDED = "stride 4"
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

    They are maps of stride 4, or of a `kind`, what a network's are made of. With `peaks`, values may
    exceed 1, as those of a map do whose *enlargement* is normalised: reading cuts what is left of that.
    The file appears under its name once the last image is written and the block left without an error.
    Wrong order, shape, kind or values, and missing images, raise ValueError; an image that is not as its
    record says, and values that are no numbers, InputError.
    """

    def __init__(
        self,
        path: Path | str,
        records: Iterable[LabelledImage],
        kind: type[ActivationMaps] | None = None,
        peaks: bool = False,
    ) -> None:
        self._path = Path(path)
        self._kind = kind
        self._suffixes = _suffixes(kind)
        self._highest = float(np.finfo(np.float16).max) if peaks else 1.0
        self._records = list(records)
        self._written = 0
        self._tensors: dict[str, _Tensor] = {}
        self._end = 0
        self._room = _room_for_header([record.id for record in self._records], kind)
        self._stack = ExitStack()
        self._file: BinaryIO

    def __enter__(self) -> Self:
        """Open a new file beside the final one, and leave room for its header."""
        temporary = self._stack.enter_context(atomic_path(self._path))
        self._file = self._stack.enter_context(temporary.open("wb"))
        self._file.write(struct.pack("<Q", self._room) + b" " * self._room)
        return self

    def write(self, image_id: str, activation: np.ndarray | ActivationMaps) -> None:
        """Append the activation of the next image.

        Args:
            image_id: Its id.
            activation: Its map of stride 4, float[k, ceil(H/4), ceil(W/4)], or of the shard's kind.
        """
        if self._written == len(self._records):
            raise ValueError(f"{self._path}: image {image_id!r} comes after the last one")
        record = self._records[self._written]
        if image_id != record.id:
            raise ValueError(f"{self._path}: got image {image_id!r}, expected {record.id!r}")
        expected_type = self._kind or np.ndarray
        if not isinstance(activation, expected_type):
            raise ValueError(f"image {image_id!r}: {type(activation)}, expected {expected_type}")
        if isinstance(activation, ActivationMaps):
            found = activation.channels, activation.height, activation.width
            wanted = len(record.labels), record.height, record.width
            if found != wanted:
                raise InputError(
                    f"image {image_id!r}: labels, height and width are {found}, the index says {wanted}."
                    " The image was replaced after the index was made: delete the index, so that it is"
                    " made anew."
                )
            tensors = activation.stored()
        else:
            expected = activation_shape(record)
            if activation.shape != expected:
                raise ValueError(f"image {image_id!r}: shape {activation.shape}, not {expected}")
            tensors = (self._half(image_id, activation),)
        for suffix, tensor in zip(self._suffixes, tensors, strict=True):
            if not np.isfinite(tensor).all():
                raise InputError(
                    f"image {image_id!r}: the network gives values that are no numbers. Its training"
                    " failed, or half precision does not suffice: lower the learning rate, or set"
                    " `training.precision: float32`."
                )
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
            self._file.write(_header(self._tensors, self._kind))
        self._stack.__exit__(kind, error, trace)


def _suffixes(kind: type[ActivationMaps] | None) -> list[str]:
    """How the names of an image's tensors end; a map of stride 4 is called as the image is."""
    return [""] if kind is None else [_MARK + name for name in kind.names]


def _header(tensors: dict[str, _Tensor], kind: type[ActivationMaps] | None) -> bytes:
    entries = {name: tensor.entry() for name, tensor in tensors.items()}
    content = {_RESERVED_KEY: {"kind": kind.kind if kind else _STRIDED}, **entries}
    return json.dumps(content, ensure_ascii=False, separators=(",", ":")).encode()


def _room_for_header(ids: Sequence[str], kind: type[ActivationMaps] | None) -> int:
    """Bytes that suffice for the header of a shard, a multiple of 8.

    How long compressed tensors become is not known before they are written, nor where they end.
    """
    largest: dict[str, _Tensor] = {}
    suffixes = _suffixes(kind)
    for image_id in ids:
        if image_id == _RESERVED_KEY or image_id + suffixes[0] in largest:
            raise ValueError(f"image id {image_id!r} occurs twice or is reserved")
        for suffix in suffixes:
            largest[image_id + suffix] = _Tensor("F16", (_HUGE, 65535, 65535), _HUGE, _HUGE)
    return -(-len(_header(largest, kind)) // 8) * 8


class ActivationReader(SharedFile):
    """Random access to one shard, by any number of threads and workers; also a context manager.

    Raises InputError when the file is missing, truncated or no activation shard.
    """

    def __init__(self, path: Path | str) -> None:
        super().__init__(path)
        try:
            self._start, self._kind, self._tensors = self._read_header()
            self._ids = tuple(dict.fromkeys(name.partition(_MARK)[0] for name in self._tensors))
        except (ValueError, KeyError, TypeError, AttributeError, struct.error) as error:
            self.close()
            raise InputError(
                f"{self.path}: not an activation shard that can be read ({error}). Delete the file, so that"
                " the stage that writes it runs again."
            ) from error

    @property
    def ids(self) -> tuple[str, ...]:
        """Ids of the images, in the order in which they were written."""
        return self._ids

    def read_strided(self, image_id: str, height: int, width: int) -> np.ndarray:
        """Return the activation at stride 4 of an image of `height` × `width` pixels.

        It is float32[k, ceil(H/4), ceil(W/4)]. Raises InputError when the shard has no such image, or one
        of another size.
        """
        with self._fitting(image_id, height, width):
            if maps := self._maps(image_id, height, width):
                return maps.strided()
            strided = self._read(image_id, image_id).astype(np.float32)
            if strided.shape[1:] != strided_size(height, width):
                raise ValueError(f"its shape is {strided.shape}")
            return strided

    def read_full(self, image_id: str, height: int, width: int) -> np.ndarray:
        """Return the activation of an image of `height` × `width` pixels, float32[k, H, W] in 0…1.

        Raises InputError when the shard has no such image, or one of another size.
        """
        with self._fitting(image_id, height, width):
            if maps := self._maps(image_id, height, width):
                return maps.activation()
            return enlarged(self._read(image_id, image_id), height, width)

    def _maps(self, image_id: str, height: int, width: int) -> ActivationMaps | None:
        """What a network's activations are made of; None where the shard holds maps of stride 4."""
        if self._kind is None:
            return None
        tensors = [self._read(image_id + suffix, image_id) for suffix in _suffixes(self._kind)]
        return self._kind.restored(tensors, height, width)

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

    def _read_header(self) -> tuple[int, type[ActivationMaps] | None, dict[str, _Tensor]]:
        size = self.path.stat().st_size
        (length,) = struct.unpack("<Q", self.read_at(0, 8))
        if 8 + length > size:
            raise ValueError("the header is cut off")
        header = json.loads(self.read_at(8, length))
        kind = header.pop(_RESERVED_KEY).get("kind")
        if kind is None:
            raise ValueError("it was written by another version of the workflow")
        if kind not in (_STRIDED, *_KINDS):
            raise ValueError(f"it holds {kind!r}")
        tensors = {}
        end = 0
        for name, tensor in header.items():
            begin, end = tensor["data_offsets"]
            if tensor["dtype"] not in _TYPES:
                raise ValueError(f"tensor {name!r} is of type {tensor['dtype']}")
            tensors[name] = _Tensor(tensor["dtype"], tuple(tensor["shape"]), begin, end)
        if 8 + length + end != size:
            raise ValueError(f"{size} bytes, {8 + length + end} expected")
        return 8 + length, _KINDS.get(kind), tensors


def enlarged(activation: np.ndarray, height: int, width: int) -> np.ndarray:
    """The activation of full size that one of stride 4 stands for: its enlargement, cut at 1."""
    large = enlarge(activation, height, width)
    return np.minimum(large, np.float32(1), out=large)
