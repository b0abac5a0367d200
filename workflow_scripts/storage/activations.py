"""Shards of class activations: half precision, a quarter of the image's size, one file a shard.

A shard is a safetensors file with one float16 tensor an image, named by the image's id, of shape
[k, ceil(H/4), ceil(W/4)]: k channels, one for each of the image's labels in the index's order.
Values lie in 0…1. Every shape is known from the index, so that the header is written first and the
images are appended one by one: neither writing nor reading holds more than one image in memory.

The published methods make two maps of an image: one at stride 4, where boundaries spread it, and one at
full size, which thresholds cut into labels. The second is no enlargement of the first: it is aligned
and normalised in another way. A shard may hold both, the full one as the map of stride 4 whose
enlargement comes closest to it, in a second tensor named `{id}//full`.
"""

import json
import struct
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from functools import lru_cache
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Protocol, Self

import numpy as np

from workflow_scripts.errors import InputError
from workflow_scripts.storage.atomic import atomic_path
from workflow_scripts.storage.positioned import PositionedFile

STRIDE = 4
_ITEM_BYTES = 2
_RESERVED_KEY = "__metadata__"
# No path holds two slashes in a row, so no image has such a name.
_FULL = "//full"


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


def strided_size(height: int, width: int) -> tuple[int, int]:
    """Return rows and columns of an image's map at stride 4."""
    return -(-height // STRIDE), -(-width // STRIDE)


def activation_shape(record: LabelledImage) -> tuple[int, int, int]:
    """Return the shape [labels, rows, columns] of an image's stored activation."""
    return len(record.labels), *strided_size(record.height, record.width)


class ActivationWriter:
    """Context manager that appends the activations of `records`, in their order, to one shard.

    With `both`, each image has a map of its full size too. With `peaks`, values may exceed 1, as those of
    a map do whose *enlargement* is normalised: `upsample` cuts what is left of that. The file appears
    under its name once the last image is written and the block left without an error. Wrong order, shape
    or values, and missing images or maps, raise ValueError.
    """

    def __init__(
        self,
        path: Path | str,
        records: Iterable[LabelledImage],
        both: bool = False,
        peaks: bool = False,
    ) -> None:
        self._path = Path(path)
        self._both = both
        self._highest = float(np.finfo(np.float16).max) if peaks else 1.0
        self._expected = [(record.id, activation_shape(record)) for record in records]
        self._written = 0
        self._stack = ExitStack()
        self._file: BinaryIO

    def __enter__(self) -> Self:
        """Write the header of a new file beside the final one."""
        header = _header(self._expected, self._both)
        temporary = self._stack.enter_context(atomic_path(self._path))
        self._file = self._stack.enter_context(temporary.open("wb"))
        self._file.write(struct.pack("<Q", len(header)) + header)
        return self

    def write(self, image_id: str, activation: np.ndarray, full: np.ndarray | None = None) -> None:
        """Append the activation float[k, ceil(H/4), ceil(W/4)] of the next image.

        Args:
            image_id: Its id.
            activation: Its map of stride 4.
            full: Its map of full size, float[k, H, W], in a shard of both.
        """
        if self._written == len(self._expected):
            raise ValueError(f"{self._path}: image {image_id!r} comes after the last one")
        expected_id, shape = self._expected[self._written]
        if image_id != expected_id:
            raise ValueError(f"{self._path}: got image {image_id!r}, expected {expected_id!r}")
        if (full is not None) != self._both:
            raise ValueError(f"image {image_id!r}: a map of full size is missing or one too many")
        maps = [activation] if full is None else [activation, downsample(full)]
        for one in maps:
            if one.shape != shape:
                raise ValueError(f"image {image_id!r}: shape {one.shape}, expected {shape}")
            half = np.ascontiguousarray(one, dtype="<f2")
            if half.size and not (half.min() >= 0 and half.max() <= self._highest):
                raise ValueError(f"image {image_id!r}: activations must be numbers from 0 to 1")
            self._file.write(half.tobytes())
        self._written += 1

    def write_maps(self, image_id: str, strided: np.ndarray, full: np.ndarray) -> None:
        """Append what this shard holds of the next image's two maps: both, or the full one alone.

        Args:
            image_id: Its id.
            strided: Its map of stride 4, float[k, ceil(H/4), ceil(W/4)].
            full: Its map of full size, float[k, H, W].
        """
        if self._both:
            self.write(image_id, strided, full)
        else:
            self.write(image_id, downsample(full))

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Give the file its name, or remove it after an error."""
        if error is None and self._written < len(self._expected):
            missing = self._expected[self._written][0]
            error = ValueError(f"{self._path}: no activation was written for image {missing!r}")
            self._stack.__exit__(ValueError, error, None)
            raise error
        self._stack.__exit__(kind, error, trace)


def _header(expected: Sequence[tuple[str, tuple[int, int, int]]], both: bool) -> bytes:
    tensors: dict[str, object] = {_RESERVED_KEY: {"stride": str(STRIDE)}}
    start = 0
    for image_id, shape in expected:
        for name in (image_id, image_id + _FULL) if both else (image_id,):
            if name in tensors:
                raise ValueError(f"image id {image_id!r} occurs twice or is reserved")
            end = start + _ITEM_BYTES * shape[0] * shape[1] * shape[2]
            tensors[name] = {"dtype": "F16", "shape": shape, "data_offsets": (start, end)}
            start = end
    header = json.dumps(tensors, ensure_ascii=False, separators=(",", ":")).encode()
    return header + b" " * (-len(header) % 8)


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
        return tuple(name for name in self._tensors if not name.endswith(_FULL))

    def read(self, image_id: str) -> np.ndarray:
        """Return the activation of an image at stride 4, float32[k, ceil(H/4), ceil(W/4)].

        Raises InputError when the shard has no such image.
        """
        return self._read(image_id, image_id)

    def read_full(self, image_id: str) -> np.ndarray:
        """Return the map that `upsample` enlarges to the activation of full size; of `read`'s shape.

        It is `read`'s where the shard holds one map an image. Raises InputError as `read` does.
        """
        name = image_id + _FULL
        return self._read(name if name in self._tensors else image_id, image_id)

    def _read(self, name: str, image_id: str) -> np.ndarray:
        try:
            shape, start, end = self._tensors[name]
        except KeyError:
            raise InputError(
                f"{self.path}: no activation of image {image_id!r}. The index has changed since"
                " the file was written: delete it, so that the stage that writes it runs again."
            ) from None
        data = self.read_at(self._start + start, end - start)
        return np.frombuffer(data, dtype="<f2").astype(np.float32).reshape(shape)

    def _read_header(self) -> tuple[int, dict[str, tuple[tuple[int, ...], int, int]]]:
        size = self.path.stat().st_size
        (length,) = struct.unpack("<Q", self.read_at(0, 8))
        if 8 + length > size:
            raise ValueError("the header is cut off")
        header = json.loads(self.read_at(8, length))
        if header.pop(_RESERVED_KEY).get("stride") != str(STRIDE):
            raise ValueError(f"activations are not of stride {STRIDE}")
        tensors = {}
        end = 0
        for image_id, tensor in header.items():
            begin, end = tensor["data_offsets"]
            if tensor["dtype"] != "F16":
                raise ValueError(f"tensor {image_id!r} is not of type F16")
            tensors[image_id] = (tuple(tensor["shape"]), begin, end)
        if 8 + length + end != size:
            raise ValueError(f"{size} bytes, {8 + length + end} expected")
        return 8 + length, tensors


def upsample(activation: np.ndarray, height: int, width: int) -> np.ndarray:
    """Enlarge float32[k, h, w] four times bilinearly and crop it to float32[k, height, width].

    Sample positions are those of `align_corners=False`: output pixel x lies at (x + 0.5) / 4 - 0.5
    of the input, clamped at the border. Rows are interpolated before columns, in float32, and the result
    is cut at 1; the threshold sweep repeats these operations in the same order and so gives the same
    bits.
    """
    low, high, weight = upsampling_weights(activation.shape[1], height)
    rows = activation[:, low] * (1 - weight)[:, None] + activation[:, high] * weight[:, None]
    low, high, weight = upsampling_weights(activation.shape[2], width)
    return np.minimum(rows[:, :, low] * (1 - weight) + rows[:, :, high] * weight, np.float32(1))


def downsample(full: np.ndarray) -> np.ndarray:
    """The counterpart of `upsample`: float32[k, H, W] → float32[k, ceil(H/4), ceil(W/4)] in 0…1.

    Its enlargement is the closest one to `full`, by least squares. Samples of `full` would cut the tips
    of its piecewise linear maps, whose knots lie between the samples.
    """
    rows, columns = _least_squares(full.shape[1]), _least_squares(full.shape[2])
    return np.clip(rows @ full.astype(np.float32) @ columns.T, 0, 1)


@lru_cache(maxsize=1024)
def _least_squares(length: int) -> np.ndarray:
    """The pseudo-inverse of enlarging an axis, float32[ceil(length / 4), length]."""
    size = -(-length // STRIDE)
    low, high, weight = upsampling_weights(size, length)
    enlarging = np.zeros((length, size))
    pixels = np.arange(length)
    np.add.at(enlarging, (pixels, low), 1 - weight)
    np.add.at(enlarging, (pixels, high), weight)
    return np.linalg.pinv(enlarging).astype(np.float32)


def upsampling_weights(size: int, length: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return for each of `length` output positions its two inputs and the second one's weight.

    Indices are int64[length] into an axis of `size`, weights float32[length] (multiples of 1/8).
    Raises ValueError when `length` is not from 4 * size - 3 to 4 * size.
    """
    if not STRIDE * (size - 1) < length <= STRIDE * size:
        raise ValueError(f"an axis of {size} cannot be enlarged to {length}")
    position = np.maximum((np.arange(length) + 0.5) / STRIDE - 0.5, 0.0)
    low = position.astype(np.int64)
    high = np.minimum(low + 1, size - 1)
    return low, high, (position - low).astype(np.float32)
