"""Make the activations of one shard with the trained network of a method: cam, amn, or any other.

The first argument is the method; `python -m workflow_scripts.infer METHOD --help` lists what it can be told.
Writes a safetensors shard; storage/activations.py says what is in it. A method that reads seeds is given
those of the same images.
"""

import sys
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import Field

from workflow_scripts.console.progress import progress
from workflow_scripts.console.shards import ShardFiles
from workflow_scripts.console.stage import PluggedFiles, run_entry_stage, run_stage
from workflow_scripts.datasets.images import read_image
from workflow_scripts.doors.method import METHODS, LabelledImage, Method, Reads
from workflow_scripts.doors.usage import Use, code_of
from workflow_scripts.errors import InputError
from workflow_scripts.models.trained import activations_of, load_trained
from workflow_scripts.settings.base import Settings
from workflow_scripts.storage.activations import ActivationWriter, activation_shape
from workflow_scripts.storage.masks import MaskReader
from workflow_scripts.training.distributed import choose_device
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
        with ExitStack() as stack:
            seeds = stack.enter_context(MaskReader(files.seeds)) if files.seeds else None
            writer = stack.enter_context(ActivationWriter(files.output, records, entry.maps()))
            stack.enter_context(autocast(dtype, device))
            title = f"infer {entry.name} {files.split} {files.shard}"
            for record in progress(records, description=title):
                if not record.labels and entry.maps() is None:
                    writer.write(record.id, np.zeros(activation_shape(record), np.float32))
                    continue
                image = LabelledImage(
                    read_image(record.path),
                    tuple(record.labels),
                    len(index.classes),
                    seeds.read(record.id) if seeds else None,
                )
                try:
                    found = activations_of(method, network, image, settings, device)
                except InputError as error:
                    raise InputError(f"image {record.id}: {error}") from None
                writer.write(record.id, found)

    return run_stage(f"infer {entry.name}", __doc__, Files, entry.Infer, work, arguments, code)


def main(argv: Sequence[str] | None = None) -> int:
    """Command line of the stage."""
    return run_entry_stage("infer", __doc__, METHODS, run, argv)


if __name__ == "__main__":
    sys.exit(main())
