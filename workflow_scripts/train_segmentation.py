"""Train a segmentation network on masks: DeepLab-v2, or another `--segmenter`.

The masks are pseudo-masks (`--masks`, zip shards). With `--masks` left out it is the fully supervised
reference: the only training that reads the dataset's own masks, and labelled as such everywhere.
Writes model.safetensors, model.json and training.csv. Interrupted, it resumes.
"""

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from pydantic import Field
from torch import Tensor, nn

from workflow_scripts.console.stage import run_stage
from workflow_scripts.datasets.images import read_mask
from workflow_scripts.datasets.index import ImageRecord, Index
from workflow_scripts.doors.segmenter import SegmenterSettings
from workflow_scripts.doors.usage import code_of, uses
from workflow_scripts.errors import InputError
from workflow_scripts.models.feature_maps import Backbone
from workflow_scripts.models.segmentation import IGNORE
from workflow_scripts.storage.atomic import atomic_path
from workflow_scripts.storage.masks import MaskCollection
from workflow_scripts.storage.networks import DESCRIPTION_NAME
from workflow_scripts.training.loop import Batch
from workflow_scripts.training.training_stage import Learner, TrainingFiles, run_training


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
    """Classification of every pixel, as the loop asks for it."""

    def __init__(self, segmenter: SegmenterSettings) -> None:
        self.segmenter = segmenter

    def counts(self, batch: Batch) -> Tensor:
        """Pixels with a label: [1]."""
        return (batch["mask"] != IGNORE).sum()[None].float()

    def loss(self, network: nn.Module, batch: Batch, counts: Tensor) -> Tensor:
        """The segmenter's loss."""
        return self.segmenter.loss(network(batch["image"]), batch["mask"].long(), counts[0])


def true_mask(record: ImageRecord) -> np.ndarray:
    """The dataset's own mask of an image, uint8 [H, W]."""
    if record.mask is None:
        raise InputError(
            f"image {record.id}: the index names no mask, which the method `full` needs for every "
            "training image; take `full` out of `methods`"
        )
    return read_mask(record.mask)


def code(settings: SegmenterSettings) -> Mapping[str, str]:
    """Digests of the code that the stage runs."""
    return code_of("train_segmentation", uses(settings))


def work(files: Files, settings: SegmenterSettings) -> None:
    """Train the network and describe it in model.json."""

    def build(backbone: Backbone, index: Index, records: Sequence[ImageRecord]) -> Learner:
        description = {
            "kind": "segmentation",
            "version": 1,
            "architecture": f"{settings.title or settings.segmenter} on {settings.backbone.name}",
            **settings.described(),
            "mean": backbone.mean,
            "std": backbone.std,
            "input": "RGB / 255, then (x - mean) / std; any size; the crop is what it was trained on",
            "crop": settings.training.augmentation.crop,
            "supervision": "image labels" if files.masks else "full masks",
            "initialisation": settings.backbone.weights,
            "licence_of_initial_weights": settings.backbone.licence_of_weights,
            "training": {
                "folder": files.output.parent.as_posix(),
                "splits": list(files.splits),
                "images": len(records),
                "seed": files.seed,
                "settings": settings.training.model_dump(),
            },
        }
        network = settings.build(backbone, len(index.classes))
        return Learner(network, Segmentation(settings), description)

    description = run_training(
        "train_segmentation",
        files,
        settings,
        build,
        settings.backbone,
        code(settings),
        MaskCollection(files.masks).of if files.masks else true_mask,
        files.masks,
    )
    if description is not None:
        with atomic_path(files.output.with_name(DESCRIPTION_NAME)) as temporary:
            temporary.write_text(json.dumps(description, indent=2) + "\n")


def main(argv: Sequence[str] | None = None) -> int:
    """Command line of the stage."""
    return run_stage("train_segmentation", __doc__, Files, SegmenterSettings, work, argv, code)


if __name__ == "__main__":
    sys.exit(main())
