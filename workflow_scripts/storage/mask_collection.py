"""The masks of a dataset, spread over several shards."""

from collections.abc import Iterable
from pathlib import Path
from typing import Protocol

import numpy as np

from workflow_scripts.errors import InputError
from workflow_scripts.storage.masks import MaskReader


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
