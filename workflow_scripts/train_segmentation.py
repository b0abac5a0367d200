"""Train the segmentation network, DeepLab-v2, on masks.

The masks are pseudo-masks (`--masks`, zip shards). With `--masks` left out it is the fully supervised
reference: the only training that reads the dataset's own masks, and labelled as such everywhere.
Writes model.safetensors, model.json and training.csv. Interrupted, it resumes.
"""

import json
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from pydantic import Field
from torch import Tensor, nn

from workflow_scripts.console.stage import run_stage
from workflow_scripts.datasets.images import read_mask
from workflow_scripts.datasets.index import ImageRecord, Index
from workflow_scripts.errors import InputError
from workflow_scripts.models.backbones import Backbone
from workflow_scripts.models.deeplab import IGNORE, DeepLab, segmentation_loss
from workflow_scripts.models.licences import licence_of_weights
from workflow_scripts.settings.segmentation import TrainSegmentationSettings
from workflow_scripts.storage.atomic import atomic_path
from workflow_scripts.storage.masks import MaskCollection
from workflow_scripts.storage.networks import DESCRIPTION_NAME
from workflow_scripts.training.loop import Batch
from workflow_scripts.training.session import Learner, TrainingFiles, run_training


class Files(TrainingFiles):
    """Inputs and outputs."""

    masks: tuple[Path, ...] = Field(
        (),
        description="zip shards of pseudo-masks; none: the dataset's own masks (fully supervised)",
    )

    @property
    def beside(self) -> tuple[Path, ...]:
        """The history of the training, and what describes the network."""
        return (*super().beside, self.output.with_name(DESCRIPTION_NAME))


class Segmentation:
    """Classification of every pixel at the masks' size."""

    def counts(self, batch: Batch) -> Tensor:
        """Pixels with a label: [1]."""
        return (batch["mask"] != IGNORE).sum()[None].float()

    def loss(self, network: nn.Module, batch: Batch, counts: Tensor) -> Tensor:
        """Mean over the pixels of the batch."""
        return segmentation_loss(network(batch["image"]), batch["mask"].long(), counts[0])


def true_mask(record: ImageRecord) -> np.ndarray:
    """The dataset's own mask of an image, uint8 [H, W]."""
    if record.mask is None:
        raise InputError(
            f"image {record.id}: the index names no mask, which the method `full` needs for every "
            "training image; take `full` out of `methods`"
        )
    return read_mask(record.mask)


def work(files: Files, settings: TrainSegmentationSettings) -> None:
    """Train the network and describe it in model.json."""

    def build(backbone: Backbone, index: Index, records: Sequence[ImageRecord]) -> Learner:
        network = DeepLab(backbone, len(index.classes), settings.dilations)
        description = {
            "kind": "segmentation",
            "version": 1,
            "architecture": f"DeepLab-v2 on {settings.backbone.name}",
            "dilations": settings.dilations,
            "mean": backbone.mean,
            "std": backbone.std,
            "input": "RGB / 255, then (x - mean) / std; any size; the crop is what it was trained on",
            "crop": settings.training.augmentation.crop,
            "supervision": "image labels" if files.masks else "full masks",
            "initialisation": settings.backbone.weights,
            "licence_of_initial_weights": licence_of_weights(settings.backbone),
            "training": {
                "folder": files.output.parent.as_posix(),
                "splits": list(files.splits),
                "images": len(records),
                "seed": files.seed,
                "settings": settings.training.model_dump(),
            },
        }
        return Learner(network, Segmentation(), description)

    mask_of = MaskCollection(files.masks).of if files.masks else true_mask
    description = run_training("train_segmentation", files, settings, build, mask_of, files.masks)
    if description is not None:
        with atomic_path(files.output.with_name(DESCRIPTION_NAME)) as temporary:
            temporary.write_text(json.dumps(description, indent=2) + "\n")


def main(argv: Sequence[str] | None = None) -> int:
    """Command line of the stage."""
    return run_stage("train_segmentation", __doc__, Files, TrainSegmentationSettings, work, argv)


if __name__ == "__main__":
    sys.exit(main())
