"""Train the boundary network (IRN) on seeds: class boundaries.

Reads the index, its images and the seeds of all training shards; writes model.safetensors and
training.csv. Interrupted, it resumes.
"""

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from pydantic import Field
from torch import Tensor, nn

from workflow_scripts.console.stage import run_stage
from workflow_scripts.datasets.index import ImageRecord, Index
from workflow_scripts.doors.usage import code_of, uses
from workflow_scripts.models.boundary import (
    BoundaryNetwork,
    boundary_losses,
    pair_counts,
    reduce_labels,
)
from workflow_scripts.models.boundary_settings import TrainBoundarySettings
from workflow_scripts.models.feature_maps import Backbone
from workflow_scripts.storage.masks import MaskCollection
from workflow_scripts.training.loop import Batch
from workflow_scripts.training.training_stage import Learner, TrainingFiles, run_training


class Files(TrainingFiles):
    """Inputs and outputs."""

    seeds: tuple[Path, ...] = Field(description="zip shards of seeds for the training images")


class InterPixelRelations:
    """Whether pairs of pixels of the seeds are alike."""

    def __init__(self, radius: int) -> None:
        self.radius = radius

    def counts(self, batch: Batch) -> Tensor:
        """Pairs that each mean is over."""
        return pair_counts(reduce_labels(batch["mask"]), self.radius)

    def loss(self, network: nn.Module, batch: Batch, counts: Tensor) -> Tensor:
        """Half the sum of the two losses."""
        labels = reduce_labels(batch["mask"])
        return boundary_losses(network(batch["image"]), labels, counts, self.radius).sum() / 2


def code(settings: TrainBoundarySettings) -> Mapping[str, str]:
    """Digests of the code that the stage runs."""
    return code_of("train_boundary", uses(settings))


def work(files: Files, settings: TrainBoundarySettings) -> None:
    """Train the network."""

    def build(backbone: Backbone, index: Index, records: Sequence[ImageRecord]) -> Learner:
        task = InterPixelRelations(settings.radius)
        return Learner(BoundaryNetwork(backbone), task, {"kind": "boundary"})

    seeds = MaskCollection(files.seeds)
    run_training(
        "train_boundary",
        files,
        settings,
        build,
        settings.backbone,
        code(settings),
        seeds.of,
        files.seeds,
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Command line of the stage."""
    return run_stage("train_boundary", __doc__, Files, TrainBoundarySettings, work, argv, code)


if __name__ == "__main__":
    sys.exit(main())
