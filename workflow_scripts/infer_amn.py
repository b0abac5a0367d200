"""Make the activations of one shard with the trained AMN, conditioned on each image's labels.

Writes a safetensors shard of the logits of several scales, each averaged with its mirror image's (of the
absent classes what the softmax needs), and of the seed's region; storage/activation_maps.py says how. Readers
enlarge and add the logits and take the softmax over background and all classes. Where the image's seed
is not background, each present one is stretched to 0…1 over the image; elsewhere the probability stays.
"""

import sys
from collections.abc import Sequence
from pathlib import Path

from pydantic import Field

from workflow_scripts.console.progress import progress
from workflow_scripts.console.shards import InferenceFiles
from workflow_scripts.console.stage import run_stage
from workflow_scripts.datasets.images import read_image
from workflow_scripts.models.amn_activations import amn_activations, load_amn
from workflow_scripts.settings.amn import InferAmnSettings
from workflow_scripts.storage.activation_maps import AmnMaps
from workflow_scripts.storage.activations import ActivationWriter
from workflow_scripts.storage.masks import MaskReader
from workflow_scripts.training.distributed import choose_device
from workflow_scripts.training.precision import autocast, inference_dtype


class Files(InferenceFiles):
    """Inputs and outputs."""

    model: Path = Field(description="model.safetensors of train_amn")
    seeds: Path = Field(description="zip shard of the CAM's seeds for the same images")


def work(files: Files, settings: InferAmnSettings) -> None:
    """Write the shard."""
    index, records = files.read()
    device = choose_device(files.device)
    network, description = load_amn(files.model, index.classes, device)
    dtype = inference_dtype(description, device)
    with (
        MaskReader(files.seeds) as seeds,
        ActivationWriter(files.output, records, AmnMaps) as writer,
        autocast(dtype, device),
    ):
        for record in progress(records, description=f"infer_amn {files.split} {files.shard}"):
            maps = amn_activations(
                network,
                read_image(record.path),
                record.labels,
                len(index.classes),
                seeds.read(record.id),
                settings.scales,
                device,
            )
            writer.write(record.id, maps)


def main(argv: Sequence[str] | None = None) -> int:
    """Command line of the stage."""
    return run_stage("infer_amn", __doc__, Files, InferAmnSettings, work, argv)


if __name__ == "__main__":
    sys.exit(main())
