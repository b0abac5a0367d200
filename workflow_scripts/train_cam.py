"""Train the multi-label classifier whose class activation maps start everything.

Reads the index and its images; writes model.safetensors and training.csv. Interrupted, it resumes.
"""

import sys
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from workflow_scripts.console.stage import run_stage
from workflow_scripts.models.backbones import load_backbone
from workflow_scripts.models.cam import CamNetwork, multi_label_loss
from workflow_scripts.settings.cam import TrainCamSettings
from workflow_scripts.training.distributed import World
from workflow_scripts.training.images import TrainingImages
from workflow_scripts.training.loop import Batch
from workflow_scripts.training.randomness import INITIALISATION, seed_torch
from workflow_scripts.training.session import TrainingFiles, run_training


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
    world = World.join(files.device)
    index, records = files.read()
    classes = len(index.classes)
    backbone = load_backbone(settings.backbone)
    seed_torch(files.seed, INITIALISATION)
    network = CamNetwork(backbone, classes)
    images = TrainingImages(
        records, classes, settings.training.augmentation, (backbone.mean, backbone.std), files.seed
    )
    run_training(
        "train_cam", files, settings, settings.training, settings.backbone.name, network,
        Classification(), images, [files.index],
        {
            "kind": "cam",
            "classes": list(index.classes),
            "backbone": settings.backbone.model_dump(),
            "precision": settings.training.precision,
        },
        world,
    )  # fmt: skip


def main(argv: Sequence[str] | None = None) -> int:
    """Command line of the stage."""
    return run_stage("train_cam", __doc__, TrainingFiles, TrainCamSettings, work, argv)


if __name__ == "__main__":
    sys.exit(main())
