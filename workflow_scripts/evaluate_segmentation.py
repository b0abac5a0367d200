"""Label the images of one shard with the trained segmentation network.

Probabilities are averaged over scales and, if asked for, mirror images, and refined by a dense CRF if
asked for. Writes a zip shard of indexed PNG masks; `evaluate_masks` compares it with the truth.
"""

import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from pydantic import Field

from workflow_scripts.console.progress import progress
from workflow_scripts.console.shards import ShardFiles
from workflow_scripts.console.stage import PluggedFiles, run_stage
from workflow_scripts.datasets.index import ImageRecord
from workflow_scripts.datasets.parallel import in_threads
from workflow_scripts.refinement.prediction import load_segmentation, predictions
from workflow_scripts.settings.evaluation import EvaluateSegmentationSettings
from workflow_scripts.storage.masks import MaskWriter
from workflow_scripts.training.distributed import choose_device
from workflow_scripts.training.inference_pipeline import bytes_of, image_reader, written_behind
from workflow_scripts.training.precision import inference_dtype


class Files(ShardFiles, PluggedFiles):
    """Inputs and outputs."""

    model: Path = Field(description="model.safetensors of train_segmentation")
    output: Path = Field(description="zip shard of predictions to write")
    device: str = Field("auto", description="auto, cpu or cuda")


def work(files: Files, settings: EvaluateSegmentationSettings) -> None:
    """Write the shard of predictions."""
    index, records = files.read()
    device = choose_device(files.device)
    network, description = load_segmentation(files.model, device, index.classes)
    dtype = inference_dtype(description, device)
    read_image = image_reader(device)

    def read(record: ImageRecord) -> tuple[str, np.ndarray]:
        return record.id, read_image(record.path)

    images = in_threads(read, records, files.threads, bytes_of)
    labelled = predictions(
        network, images, settings, device, dtype, files.threads, len(index.classes)
    )
    title = f"evaluate_segmentation {files.split} {files.shard}"
    with MaskWriter(files.output) as writer, written_behind(writer.write) as write:
        for image_id, _, mask in progress(labelled, total=len(records), description=title):
            write(image_id, mask)


def main(argv: Sequence[str] | None = None) -> int:
    """Command line of the stage."""
    return run_stage(
        "evaluate_segmentation", __doc__, Files, EvaluateSegmentationSettings, work, argv
    )


if __name__ == "__main__":
    sys.exit(main())
