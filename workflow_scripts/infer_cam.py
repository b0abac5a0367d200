"""Make the class activation maps of one shard with the trained classifier.

Writes a safetensors shard of the maps of several scales, each with its mirror image's added, for each class
of the image's label (storage/activations.py says how). Readers enlarge and add them, and divide each
class by its maximum.
"""

import sys
from collections.abc import Sequence
from pathlib import Path

from pydantic import Field

from workflow_scripts.console.progress import progress
from workflow_scripts.console.shards import InferenceFiles
from workflow_scripts.console.stage import run_stage
from workflow_scripts.datasets.images import read_image
from workflow_scripts.models.cam_activations import cam_activations, load_cam
from workflow_scripts.settings.cam import InferCamSettings
from workflow_scripts.storage.activation_maps import CamMaps
from workflow_scripts.storage.activations import ActivationWriter
from workflow_scripts.training.distributed import choose_device
from workflow_scripts.training.precision import autocast, inference_dtype


class Files(InferenceFiles):
    """Inputs and outputs."""

    model: Path = Field(description="model.safetensors of train_cam")


def work(files: Files, settings: InferCamSettings) -> None:
    """Write the shard."""
    index, records = files.read()
    device = choose_device(files.device)
    network, description = load_cam(files.model, index.classes, device)
    dtype = inference_dtype(description, device)
    with (
        ActivationWriter(files.output, records, CamMaps) as writer,
        autocast(dtype, device),
    ):
        for record in progress(records, description=f"infer_cam {files.split} {files.shard}"):
            maps = cam_activations(
                network,
                read_image(record.path),
                record.labels,
                settings.scales,
                device,
            )
            writer.write(record.id, maps)


def main(argv: Sequence[str] | None = None) -> int:
    """Command line of the stage."""
    return run_stage("infer_cam", __doc__, Files, InferCamSettings, work, argv)


if __name__ == "__main__":
    sys.exit(main())
