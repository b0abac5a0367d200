"""Train the boundary network (IRN) on seeds: class boundaries, and displacements to object centres.

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
from workflow_scripts.models.backbones import Backbone
from workflow_scripts.models.boundary import (
    BoundaryNetwork,
    boundary_losses,
    pair_counts,
    reduce_labels,
)
from workflow_scripts.settings.boundary import TrainBoundarySettings
from workflow_scripts.storage.masks import MaskCollection
from workflow_scripts.training.loop import Batch
from workflow_scripts.training.session import Learner, TrainingFiles, run_training


class Files(TrainingFiles):
    """Inputs and outputs."""

    seeds: tuple[Path, ...] = Field(description="zip shards of seeds for the training images")


class InterPixelRelations:
    """Whether pairs of pixels of the seeds are alike, and where their objects' centres lie."""

    def __init__(self, radius: int) -> None:
        self.radius = radius

    def counts(self, batch: Batch) -> Tensor:
        """Pairs that each mean is over."""
        return pair_counts(reduce_labels(batch["mask"]), self.radius)

    def loss(self, network: nn.Module, batch: Batch, counts: Tensor) -> Tensor:
        """Half the sum of the four losses."""
        logits, displacement = network(batch["image"])
        labels = reduce_labels(batch["mask"])
        return boundary_losses(logits, displacement, labels, counts, self.radius).sum() / 2


def work(files: Files, settings: TrainBoundarySettings) -> None:
    """Train the network."""

    def build(backbone: Backbone, index: Index, records: Sequence[ImageRecord]) -> Learner:
        task = InterPixelRelations(settings.radius)
        return Learner(BoundaryNetwork(backbone), task, {"kind": "boundary"})

    seeds = MaskCollection(files.seeds)
    run_training("train_boundary", files, settings, build, seeds.of, files.seeds)


def main(argv: Sequence[str] | None = None) -> int:
    """Command line of the stage."""
    return run_stage("train_boundary", __doc__, Files, TrainBoundarySettings, work, argv)


if __name__ == "__main__":
    sys.exit(main())
