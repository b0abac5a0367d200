"""What every training stage does around the loop: join the run, train, write the results."""

import hashlib
import logging
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from pydantic import Field
from torch import nn

from workflow_scripts.console.stage import StageFiles
from workflow_scripts.datasets.index import ImageRecord, Index, read_index
from workflow_scripts.planning.fingerprint import code_digests
from workflow_scripts.settings.base import Settings
from workflow_scripts.settings.training import TrainingSettings
from workflow_scripts.storage.networks import save_network
from workflow_scripts.training.checkpoint import Checkpoint, fingerprint
from workflow_scripts.training.distributed import World
from workflow_scripts.training.images import TrainingImages
from workflow_scripts.training.loop import Run, Task, train

logger = logging.getLogger(__name__)

HISTORY_NAME = "training.csv"
CHUNK = 1 << 20


class TrainingFiles(StageFiles):
    """What every training stage takes beside its settings."""

    index: Path = Field(description="index.csv of the dataset")
    splits: tuple[str, ...] = Field(("train",), description="splits of the index to train on")
    output: Path = Field(
        description="model.safetensors to write; training.csv (one row an epoch) appears beside it"
    )
    seed: int = Field(0, ge=0, description="seed of all randomness")
    device: str = Field("auto", description="auto, cpu or cuda")
    workers: int | None = Field(
        None, ge=0, description="loader processes; one less than the threads if left out"
    )
    checkpoint_minutes: float = Field(
        10.0, gt=0, description="minutes between resume checkpoints; results do not depend on it"
    )

    def read(self) -> tuple[Index, list[ImageRecord]]:
        """The index, and the images to train on.

        Raises:
            InputError: The index cannot be read, or one of the splits has no images.
        """
        index = read_index(self.index)
        return index, [record for split in self.splits for record in index.of_split(split)]


def _digest(paths: Iterable[Path]) -> str:
    """Digest of the contents of files."""
    digest = hashlib.sha256()
    for path in paths:
        with path.open("rb") as file:
            while chunk := file.read(CHUNK):
                digest.update(chunk)
    return digest.hexdigest()


def run_training(
    stage: str,
    files: TrainingFiles,
    settings: Settings,
    training: TrainingSettings,
    backbone: str,
    network: nn.Module,
    task: Task,
    images: TrainingImages,
    data: Iterable[Path],
    description: dict[str, Any],
    world: World,
) -> None:
    """Train and write `model.safetensors` and `training.csv`, or resume what was interrupted.

    Args:
        stage: The stage's module name, for code and messages.
        files: Where things are.
        settings: All settings of the stage.
        training: The part that concerns the loop.
        backbone: The backbone's name.
        network: Freshly initialised.
        task: Its loss.
        images: What it learns from.
        data: Files that the result depends on, for the checkpoint's fingerprint.
        description: Stored with the weights.
        world: The processes of the run.
    """
    checkpoint = Checkpoint(
        files.output,
        fingerprint(
            settings.model_dump(), files.seed, files.splits, _digest(data), code_digests(stage)
        ),
    )
    run = Run(
        checkpoint=checkpoint,
        seed=files.seed,
        world=world,
        workers=max(0, files.threads - 1) if files.workers is None else files.workers,
        checkpoint_seconds=60 * files.checkpoint_minutes,
        description=stage,
    )
    history = train(network, task, images, training, backbone, run)
    if world.leads:
        history.write(files.output.with_name(HISTORY_NAME))
        save_network(files.output, network, description)
        checkpoint.remove()
        logger.info("wrote %s, loss %.4f in the last epoch", files.output, history.rows[-1]["loss"])
    world.leave()
