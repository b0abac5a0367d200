"""Train the multi-label classifier whose class activation maps start everything.

Reads the index and its images; writes model.safetensors and training.csv. Interrupted, it resumes.
"""

import sys
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from workflow_scripts.console.stage import run_stage
from workflow_scripts.datasets.index import ImageRecord, Index
from workflow_scripts.models.backbones import Backbone
from workflow_scripts.models.cam import CamNetwork, multi_label_loss
from workflow_scripts.settings.cam import TrainCamSettings
from workflow_scripts.training.loop import Batch
from workflow_scripts.training.session import Learner, TrainingFiles, run_training


class Classification:
    """Multi-label classification of whole images."""

    def counts(self, batch: Batch) -> Tensor:
        """Number of images: [1]."""
        return torch.tensor([float(len(batch["image"]))], device=batch["image"].device)

    def loss(self, network: nn.Module, batch: Batch, counts: Tensor) -> Tensor:
        """Mean over the images of the batch."""
        return multi_label_loss(network(batch["image"]), batch["labels"]).sum() / counts[0]


def work(files: TrainingFiles, settings: TrainCamSettings) -> None:
    """Train the classifier."""

    def build(backbone: Backbone, index: Index, records: Sequence[ImageRecord]) -> Learner:
        network = CamNetwork(backbone, len(index.classes))
        return Learner(network, Classification(), {"kind": "cam"})

    run_training("train_cam", files, settings, build)


def main(argv: Sequence[str] | None = None) -> int:
    """Command line of the stage."""
    return run_stage("train_cam", __doc__, TrainingFiles, TrainCamSettings, work, argv)


if __name__ == "__main__":
    sys.exit(main())
