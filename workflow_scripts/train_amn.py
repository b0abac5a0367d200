"""Train the activation manipulation network on seeds, conditioned on the images' labels.

Reads the index, its images and the seeds of all training shards; writes model.safetensors and
training.csv. Interrupted, it resumes.
"""

import sys
from collections.abc import Sequence
from pathlib import Path

from pydantic import Field
from torch import Tensor, nn

from workflow_scripts.console.stage import run_stage
from workflow_scripts.datasets.index import ImageRecord, Index
from workflow_scripts.models.amn import AmnNetwork, per_pixel_loss, pixel_counts, reduce_labels
from workflow_scripts.models.backbones import Backbone
from workflow_scripts.settings.amn import TrainAmnSettings
from workflow_scripts.storage.masks import MaskCollection
from workflow_scripts.training.loop import Batch
from workflow_scripts.training.session import Learner, TrainingFiles, run_training


class Files(TrainingFiles):
    """Inputs and outputs."""

    seeds: tuple[Path, ...] = Field(description="zip shards of seeds for the training images")


class PerPixelClassification:
    """Balanced, label-smoothed classification of the pixels of the seeds."""

    def __init__(self, stride: int, settings: TrainAmnSettings) -> None:
        self.stride, self.settings = stride, settings

    def _labels(self, batch: Batch) -> Tensor:
        height, width = (-(-side // self.stride) for side in batch["mask"].shape[1:])
        return reduce_labels(batch["mask"], height, width)

    def counts(self, batch: Batch) -> Tensor:
        """Pixels that each side's mean is over."""
        return pixel_counts(self._labels(batch), self.settings.balance)

    def loss(self, network: nn.Module, batch: Batch, counts: Tensor) -> Tensor:
        """The paper's loss on the logits' grid."""
        logits = network(batch["image"], batch["labels"])
        return per_pixel_loss(logits, self._labels(batch), counts, self.settings.label_smoothing)


def work(files: Files, settings: TrainAmnSettings) -> None:
    """Train the network."""

    def build(backbone: Backbone, index: Index, records: Sequence[ImageRecord]) -> Learner:
        network = AmnNetwork(
            backbone,
            len(index.classes),
            settings.dilations,
            settings.dropout,
            settings.label_conditioning,
        )
        description = {
            "kind": "amn",
            "dilations": settings.dilations,
            "label_conditioning": settings.label_conditioning,
        }
        return Learner(network, PerPixelClassification(backbone.strides[-1], settings), description)

    seeds = MaskCollection(files.seeds)
    run_training("train_amn", files, settings, build, seeds.of, files.seeds)


def main(argv: Sequence[str] | None = None) -> int:
    """Command line of the stage."""
    return run_stage("train_amn", __doc__, Files, TrainAmnSettings, work, argv)


if __name__ == "__main__":
    sys.exit(main())
