"""Label masks: indexed PNG, shards of them in uncompressed zip files, and what seeds consist of."""

import io
import json
import zipfile
import zlib
from collections.abc import Iterable
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self

import numpy as np
from PIL import Image, UnidentifiedImageError

from workflow_scripts.errors import InputError
from workflow_scripts.storage.atomic import atomic_path
from workflow_scripts.storage.shard_files import SharedFile

IGNORE = 255
_SUFFIX = ".png"
_EPOCH = (1980, 1, 1, 0, 0, 0)
_LOCAL_HEADER_BYTES = 30


@cache
def voc_palette() -> np.ndarray:
    """Return the colours of PASCAL VOC's masks, uint8[256, 3]: bits of the number, spread."""
    numbers = np.arange(256)
    colours = np.zeros((256, 3), np.uint8)
    for bit in range(8):
        for channel in range(3):
            colours[:, channel] |= ((numbers >> (3 * bit + channel) & 1) << (7 - bit)).astype("u1")
    colours.flags.writeable = False
    return colours


def encode_mask(mask: np.ndarray) -> bytes:
    """Return labels uint8[H, W] (0 background, 255 ignore) as an indexed PNG in VOC's palette."""
    if mask.dtype != np.uint8 or mask.ndim != 2:
        raise ValueError(f"a mask is uint8[H, W], not {mask.dtype}{list(mask.shape)}")
    image = Image.fromarray(mask)
    image.putpalette(voc_palette().tobytes())
    buffer = io.BytesIO()
    image.save(buffer, format="PNG")
    return buffer.getvalue()


def decode_mask(data: bytes) -> np.ndarray:
    """Return the labels uint8[H, W] of an indexed or 8-bit grey PNG; ValueError for any other."""
    try:
        with Image.open(io.BytesIO(data), formats=["PNG"]) as image:
            if image.mode not in ("P", "L"):
                raise ValueError(f"a mask is an indexed or 8-bit grey PNG, not one of {image.mode}")
            return np.array(image)
    except (UnidentifiedImageError, OSError, SyntaxError) as error:
        raise ValueError(f"not a readable PNG ({error})") from error


class MaskWriter:
    """Context manager that writes masks, one after another, into an uncompressed zip.

    Entries are named `{id}.png`, with fixed times, so that equal masks give equal files. The file
    appears under its name when the block is left without an error.
    """

    def __init__(self, path: Path | str) -> None:
        self._path = Path(path)
        self._seen: set[str] = set()
        self._stack = ExitStack()
        self._zip: zipfile.ZipFile

    def __enter__(self) -> Self:
        """Start a new file beside the final one."""
        temporary = self._stack.enter_context(atomic_path(self._path))
        self._zip = self._stack.enter_context(zipfile.ZipFile(temporary, "w", zipfile.ZIP_STORED))
        return self

    def write(self, image_id: str, mask: np.ndarray) -> None:
        """Append labels uint8[H, W]; raises ValueError for an id that was written before."""
        if image_id in self._seen:
            raise ValueError(f"{self._path}: mask {image_id!r} is written twice")
        entry = zipfile.ZipInfo(image_id + _SUFFIX, date_time=_EPOCH)
        entry.create_system = 3
        entry.external_attr = 0o644 << 16
        self._zip.writestr(entry, encode_mask(mask))
        self._seen.add(image_id)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Give the file its name, or remove it after an error."""
        self._stack.__exit__(kind, error, trace)


class MaskReader(SharedFile):
    """Random access to one shard, by any number of threads and workers; also a context manager.

    Raises InputError when the file is missing, truncated or no mask shard.
    """

    def __init__(self, path: Path | str) -> None:
        super().__init__(path)
        try:
            with zipfile.ZipFile(self.path) as archive:
                self._entries = {
                    entry.filename.removesuffix(_SUFFIX): (
                        entry.header_offset,
                        entry.file_size,
                        entry.CRC,
                    )
                    for entry in archive.infolist()
                    if entry.compress_type == zipfile.ZIP_STORED
                }
        except (OSError, zipfile.BadZipFile) as error:
            self.close()
            raise InputError(
                f"{self.path}: not a complete mask shard ({error}). Delete the file, so that the"
                " stage that writes it runs again."
            ) from error

    @property
    def ids(self) -> tuple[str, ...]:
        """Ids of the images, in the order in which they were written."""
        return tuple(self._entries)

    def read(self, image_id: str) -> np.ndarray:
        """Return the labels uint8[H, W] of an image.

        Raises InputError when the shard has no such image or its data are damaged.
        """
        try:
            offset, size, checksum = self._entries[image_id]
        except KeyError:
            raise InputError(
                f"{self.path}: no mask of image {image_id!r}. The index has changed since the file"
                " was written: delete it, so that the stage that writes it runs again."
            ) from None
        header = self.read_at(offset, _LOCAL_HEADER_BYTES)
        names = int.from_bytes(header[26:28], "little") + int.from_bytes(header[28:30], "little")
        data = self.read_at(offset + _LOCAL_HEADER_BYTES + names, size)
        if zlib.crc32(data) != checksum:
            raise InputError(f"{self.path}: the mask of image {image_id!r} is damaged")
        return decode_mask(data)


class Named(Protocol):
    """Anything with an image id."""

    @property
    def id(self) -> str:
        """Name of the image, unique in its dataset."""


class MaskCollection:
    """Masks by image, whichever shard holds them."""

    def __init__(self, paths: Iterable[Path]) -> None:
        self._reader = {i: reader for reader in map(MaskReader, paths) for i in reader.ids}

    def of(self, record: Named) -> np.ndarray:
        """Mask uint8 [H, W] of an image.

        Raises:
            InputError: No shard holds it.
        """
        reader = self._reader.get(record.id)
        if reader is None:
            raise InputError(
                f"image {record.id}: none of the mask shards holds a mask for it; make the masks of all "
                "training splits first"
            )
        return reader.read(record.id)


@dataclass
class SeedPixels:
    """Background, foreground and ignored pixels of seeds, counted image by image; kept as JSON."""

    background: int = 0
    foreground: int = 0
    ignored: int = 0

    def add(self, seed: np.ndarray) -> None:
        """Count the pixels of a seed uint8[H, W]."""
        background, ignored = int((seed == 0).sum()), int((seed == IGNORE).sum())
        self.background += background
        self.ignored += ignored
        self.foreground += seed.size - background - ignored

    def shares(self) -> dict[str, float]:
        """Share of each kind; all 0 for a shard without images."""
        total = max(1, self.background + self.foreground + self.ignored)
        return {kind: count / total for kind, count in vars(self).items()}

    def __str__(self) -> str:
        return ", ".join(f"{kind} {share:.1%}" for kind, share in self.shares().items())

    def write(self, path: Path) -> None:
        """Write the counts; the file appears whole or not at all."""
        with atomic_path(path) as temporary:
            temporary.write_text(json.dumps(vars(self)) + "\n")

    @classmethod
    def read(cls, paths: Iterable[Path]) -> Self:
        """Read the counts of some shards, added up.

        Raises InputError when a file is missing or was not written by `write`.
        """
        pixels = cls()
        for path in paths:
            try:
                counts = json.loads(path.read_text(encoding="utf-8"))
                pixels.background += counts["background"]
                pixels.foreground += counts["foreground"]
                pixels.ignored += counts["ignored"]
            except (OSError, KeyError, TypeError, ValueError) as error:
                raise InputError(
                    f"{path}: not a complete composition of seeds ({error!r}). Delete the file, so that"
                    " refine_seeds runs again."
                ) from error
        return pixels
