"""A network, data and a task small enough to train in milliseconds, through the real loop."""

import os
import signal
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from workflow_scripts.models.per_pixel import per_pixel_loss, pixel_counts
from workflow_scripts.settings.training import OptimiserSettings, TrainingSettings
from workflow_scripts.training.checkpoint import Checkpoint
from workflow_scripts.training.distributed import World
from workflow_scripts.training.loop import Batch, History, Run, train

CPU = torch.device("cpu")


class TinyNetwork(nn.Module):
    """A backbone, dropout and a head: 3 channels in, logits of 3 classes at the same size."""

    def __init__(self, dropout: float = 0.3) -> None:
        super().__init__()
        self.backbone = nn.Sequential(nn.Conv2d(3, 7, 3, padding=1), nn.BatchNorm2d(7), nn.ReLU())
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Conv2d(7, 3, 3, padding=1)

    def train(self, mode: bool = True) -> "TinyNetwork":
        super().train(mode)
        self.backbone.eval()
        return self

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.dropout(self.backbone(images)))


class TinyImages:
    """Random images; each depends on (epoch, number) alone. Few have foreground, and unequally much."""

    def __init__(self, count: int) -> None:
        self.count = count

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, key: tuple[int, int]) -> dict[str, np.ndarray]:
        rng = np.random.default_rng([7, *key])
        mask = np.zeros((6, 6), np.uint8)
        mask[: key[1] % 4] = rng.integers(1, 3)
        mask[-1] = 255
        image = rng.normal(mask[None] * (mask < 255), 1, (3, 6, 6))
        return {"image": image.astype(np.float32), "mask": mask}


class TinyTask:
    """AMN's loss; at a chosen step the process gets a signal, fails, or the loss is no number."""

    def __init__(
        self,
        stop_at: int = -1,
        number: int = signal.SIGTERM,
        fail: bool = False,
        nan_at: int = -1,
    ) -> None:
        self.stop_at, self.number, self.fail, self.nan_at = stop_at, number, fail, nan_at
        self.steps = 0
        self.batches: list[int] = []

    def counts(self, batch: Batch) -> Tensor:
        return pixel_counts(batch["mask"].long(), balance=True)

    def loss(self, network: nn.Module, batch: Batch, counts: Tensor) -> Tensor:
        self.steps += 1
        self.batches.append(len(batch["image"]))
        if self.steps == self.stop_at:
            if self.fail:
                raise RuntimeError("power cut")
            os.kill(os.getpid(), self.number)
        loss = per_pixel_loss(network(batch["image"]), batch["mask"].long(), counts, 0.1)
        return loss * float("nan") if self.steps == self.nan_at else loss


class SmallMemory(TinyTask):
    """Holds so many images at once, as a GPU would."""

    def __init__(self, images: int) -> None:
        super().__init__()
        self.images = images

    def loss(self, network: nn.Module, batch: Batch, counts: Tensor) -> Tensor:
        if len(batch["image"]) > self.images:
            raise torch.cuda.OutOfMemoryError
        return super().loss(network, batch, counts)


def tiny_settings(optimiser: str = "adamw", **changes: object) -> TrainingSettings:
    """Three epochs of seven images in batches of four, and a large learning rate."""
    return TrainingSettings(
        **{
            "epochs": 3,
            "batch_size": 4,
            "precision": "float32",
            "optimiser": OptimiserSettings(name=optimiser, learning_rate=0.02, momentum=0.9),
            **changes,
        }
    )


def tiny_train(
    folder: Path,
    settings: TrainingSettings,
    task: TinyTask | None = None,
    images: int | TinyImages = 7,
    workers: int = 0,
    seed: int = 3,
    checkpoint_seconds: float = 1e9,
    fingerprint: str = "a",
    dropout: float = 0.3,
    world: World | None = None,
) -> tuple[dict[str, Tensor], History]:
    """Train a fresh network, or resume; returns its weights and history."""
    torch.manual_seed(11)
    network = TinyNetwork(dropout)
    run = Run(
        checkpoint=Checkpoint(folder / "model.safetensors", fingerprint),
        seed=seed,
        world=world or World(0, 1, CPU),
        workers=workers,
        checkpoint_seconds=checkpoint_seconds,
        description="tiny",
    )
    images = TinyImages(images) if isinstance(images, int) else images
    history = train(network, task or TinyTask(), images, settings, False, run)  # type: ignore[arg-type]
    return network.state_dict(), history
