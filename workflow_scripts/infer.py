"""Make the activations of one shard with the trained network of a method: cam, amn, or any other.

The first argument is the method; `python -m workflow_scripts.infer METHOD --help` lists what it can be told.
Writes a safetensors shard; storage/activations.py says what is in it. A method that reads seeds is given
those of the same images.
"""

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pydantic import Field

from workflow_scripts.console.progress import progress
from workflow_scripts.console.shards import ShardFiles
from workflow_scripts.console.stage import PluggedFiles, run_entry_stage, run_stage
from workflow_scripts.datasets.index import ImageRecord, Index
from workflow_scripts.datasets.parallel import in_threads
from workflow_scripts.doors.method import METHODS, LabelledImage, Method, Reads
from workflow_scripts.doors.usage import Use, code_of
from workflow_scripts.errors import InputError
from workflow_scripts.models.trained import activations_of, load_trained
from workflow_scripts.settings.base import Settings
from workflow_scripts.storage.activation_maps import ActivationMaps
from workflow_scripts.storage.activations import ActivationWriter, activation_shape
from workflow_scripts.storage.masks import MaskReader
from workflow_scripts.training.distributed import choose_device
from workflow_scripts.training.inference_pipeline import (
    LARGEST_SCALE,
    Kind,
    bytes_of,
    image_reader,
    in_batches,
    kind_of,
    one_by_one,
    written_behind,
)
from workflow_scripts.training.precision import autocast, inference_dtype


class Files(ShardFiles, PluggedFiles):
    """Inputs and outputs."""

    model: Path = Field(description="model.safetensors of `train`, for the same method")
    seeds: Path | None = Field(
        None,
        description="zip shard of seeds for the same images, for methods that learnt from such",
    )
    output: Path = Field(description="shard of activations to write (safetensors)")
    device: str = Field("auto", description="auto, cpu or cuda")


class Images:
    """Reads images as a method sees them."""

    def __init__(
        self, index: Index, entry: type[Method], seeds: MaskReader | None, device: torch.device
    ) -> None:
        self._classes = len(index.classes)
        self._entry = entry
        self._seeds = seeds
        self._read = image_reader(device)

    def __call__(self, record: ImageRecord) -> tuple[ImageRecord, LabelledImage | None]:
        """An image with its seed; None where it shows no class, and so is not looked at."""
        if not record.labels and self._entry.maps() is None:
            return record, None
        return record, LabelledImage(
            self._read(record.path),
            tuple(record.labels),
            self._classes,
            self._seeds.read(record.id) if self._seeds else None,
        )


def activations(
    records: Sequence[ImageRecord],
    read: Callable[[ImageRecord], tuple[ImageRecord, LabelledImage | None]],
    together: Callable[[Sequence[LabelledImage]], Sequence[np.ndarray | ActivationMaps]],
    scale: float,
    device: torch.device,
    threads: int,
) -> Iterator[tuple[ImageRecord, np.ndarray | ActivationMaps]]:
    """Activations of images, in their order; see `training/inference_pipeline.py`.

    Args:
        records: The images.
        read: As `Images`.
        together: Activations of images of one size.
        scale: The largest at which the network sees them, mirrored too.
        device: Where it computes.
        threads: Threads that read.
    """

    def kind(one: tuple[ImageRecord, LabelledImage | None]) -> Kind:
        _, image = one
        if image is None:
            return Kind(None, 1)
        return kind_of(image.pixels.shape, 2 * scale**2, device)

    def computed(
        some: Sequence[tuple[ImageRecord, LabelledImage | None]],
    ) -> list[tuple[ImageRecord, np.ndarray | ActivationMaps]]:
        images = [image for _, image in some if image is not None]
        if not images:
            return [(record, np.zeros(activation_shape(record), np.float32)) for record, _ in some]
        found = together(images)
        return [(record, maps) for (record, _), maps in zip(some, found, strict=True)]

    loaded = in_threads(read, records, threads, bytes_of)
    named = partial(one_by_one, computed, name=lambda one: one[0].id)
    return in_batches(loaded, named, kind, lambda one: bytes_of(one[0]))


def run(entry: type[Method], arguments: Sequence[str]) -> int:
    """Run the stage for one method; returns its exit code."""

    def code(settings: Settings) -> Mapping[str, str]:
        return code_of("infer", [Use(METHODS, entry.name)])

    def work(files: Files, settings: Any) -> None:
        if (files.seeds is not None) != (entry.reads is Reads.SEEDS):
            does = "does not read" if files.seeds else "needs"
            raise InputError(f"--seeds: the method `{entry.name}` {does} seeds of the images")
        index, records = files.read()
        device = choose_device(files.device)
        method, network, description = load_trained(files.model, entry.name, index.classes, device)
        dtype = inference_dtype(description, device)

        def together(images: Sequence[LabelledImage]) -> list[np.ndarray | ActivationMaps]:
            with autocast(dtype, device):
                return activations_of(method, network, images, settings, device)

        with ExitStack() as stack:
            seeds = stack.enter_context(MaskReader(files.seeds)) if files.seeds else None
            writer = stack.enter_context(ActivationWriter(files.output, records, entry.maps()))
            write = stack.enter_context(written_behind(writer.write))
            images = Images(index, entry, seeds, device)
            scales = getattr(settings, "scales", LARGEST_SCALE)
            found = activations(records, images, together, max(scales), device, files.threads)
            title = f"infer {entry.name} {files.split} {files.shard}"
            for record, maps in progress(found, total=len(records), description=title):
                write(record.id, maps)

    return run_stage(f"infer {entry.name}", __doc__, Files, entry.Infer, work, arguments, code)


def main(argv: Sequence[str] | None = None) -> int:
    """Command line of the stage."""
    return run_entry_stage("infer", __doc__, METHODS, run, argv)


if __name__ == "__main__":
    sys.exit(main())
