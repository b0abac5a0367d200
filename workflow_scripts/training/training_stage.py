"""What every training stage does around the loop: join the run, train, write the results."""

import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from pydantic import Field
from torch import nn

from workflow_scripts.console.stage import PluggedFiles
from workflow_scripts.datasets.index import ImageRecord, Index, read_index
from workflow_scripts.doors.backbone import BackboneSettings
from workflow_scripts.errors import InputError
from workflow_scripts.models.feature_maps import Backbone, load_backbone
from workflow_scripts.models.stored_features import StoredFeatures, about_features, feature_shape
from workflow_scripts.settings.training import TrainingSettings
from workflow_scripts.storage.file_state import content_digest, file_state
from workflow_scripts.storage.networks import save_network
from workflow_scripts.training.checkpoint import Checkpoint, fingerprint
from workflow_scripts.training.distributed import World, loader_workers
from workflow_scripts.training.feature_images import FeatureImages
from workflow_scripts.training.loop import History, Run, Task, train
from workflow_scripts.training.randomness import INITIALISATION, seed_torch
from workflow_scripts.training.training_images import MaskOf, TrainingImages

logger = logging.getLogger(__name__)

HISTORY_NAME = "training.csv"


class TrainingFiles(PluggedFiles):
    """What every training stage takes beside its settings."""

    index: Path = Field(description="index.csv of the dataset")
    splits: tuple[str, ...] = Field(("train",), description="splits of the index to train on")
    output: Path = Field(
        description="model.safetensors to write; training.csv (one row an epoch) appears beside it"
    )
    features: tuple[Path, ...] = Field(
        (),
        description="shards of `cache_features` for the training images, where `features.cache` is set",
    )
    seed: int = Field(0, ge=0, description="seed of all randomness")
    device: str = Field("auto", description="auto, cpu or cuda")
    workers: int | None = Field(
        None,
        ge=0,
        description="loader processes; if left out one for each core of this process, on a CPU one less",
    )
    checkpoint_minutes: float = Field(
        10.0, gt=0, description="minutes between resume checkpoints; results do not depend on it"
    )

    @property
    def beside(self) -> tuple[Path, ...]:
        """The history of the training."""
        return (self.output.with_name(HISTORY_NAME),)

    def read(self) -> tuple[Index, list[ImageRecord]]:
        """The index, and the images to train on.

        Raises:
            InputError: The index cannot be read, or one of the splits has no images.
        """
        index = read_index(self.index)
        return index, [record for split in self.splits for record in index.of_split(split)]


class Trained(Protocol):
    """Settings of a stage that trains a network."""

    @property
    def training(self) -> TrainingSettings:
        """What concerns the loop."""

    def model_dump(self) -> dict[str, Any]:
        """All settings, for the checkpoint's fingerprint."""


def check_features(wanted: bool, given: Sequence[Path], source: Path | None) -> None:
    """See that there are stored features where the settings want some, and none where they do not.

    Raises:
        InputError: They are missing, or cannot be used.
    """
    if wanted != bool(given):
        raise InputError(
            "--features: `training.features.cache` is set, give the shards of `cache_features`"
            if wanted
            else "--features: is given, set `training.features.cache` too"
        )
    if wanted and source is not None:
        raise InputError(
            "training.features.cache: this method goes on from another's network, whose backbone learns; "
            "leave `cache` out"
        )


def _images(
    files: TrainingFiles,
    training: TrainingSettings,
    name: str,
    backbone: Backbone,
    index: Index,
    records: Sequence[ImageRecord],
    mask_of: MaskOf | None,
) -> TrainingImages | FeatureImages:
    """What the loop reads: images, or their stored features."""
    classes, augmentation = len(index.classes), training.augmentation
    if not files.features:
        normalisation = (backbone.mean, backbone.std)
        return TrainingImages(records, classes, augmentation, normalisation, files.seed, mask_of)
    return FeatureImages(
        records,
        classes,
        files.features,
        feature_shape(backbone, training.features),
        about_features(name, training.features),
        backbone.stride,
        augmentation.flip and training.features.mirror,
        files.seed,
        mask_of,
    )


class Learner(NamedTuple):
    """What makes one training stage different from the others."""

    network: nn.Module
    """Freshly initialised."""
    task: Task | None
    """Its loss; None where nothing is learnt."""
    description: dict[str, Any]
    """What is stored with the weights, beside classes, backbone and precision."""


def run_training(
    stage: str,
    files: TrainingFiles,
    settings: Trained,
    build: Callable[[Backbone, Index, Sequence[ImageRecord]], Learner],
    backbone_settings: BackboneSettings,
    code: Mapping[str, str],
    mask_of: MaskOf | None = None,
    data: Sequence[Path] = (),
    source: Path | None = None,
) -> dict[str, Any] | None:
    """Train and write `model.safetensors` and `training.csv`, or resume what was interrupted.

    Args:
        stage: The stage's name in messages: "train amn".
        files: Where things are.
        settings: All settings of the stage.
        build: Makes the learner, given its backbone and what it learns from.
        backbone_settings: The backbone that it stands on.
        code: Digests of the code that the training runs.
        mask_of: Mask of a training image, for stages that learn from masks.
        data: Files beside the index that the result depends on, for the checkpoint's fingerprint.
        source: Network whose tensors the learner starts from: then no weights are loaded into the backbone.

    Returns:
        What was stored with the weights; None in processes that write no files.
    """
    check_features(settings.training.features.cache, files.features, source)
    world = World.join(files.device)
    index, records = files.read()
    backbone = load_backbone(backbone_settings) if source is None else backbone_settings.build()
    seed_torch(files.seed, INITIALISATION)
    learner = build(StoredFeatures(backbone) if files.features else backbone, index, records)
    images = _images(
        files, settings.training, backbone_settings.name, backbone, index, records, mask_of
    )
    start = [Path(backbone_settings.file)] if backbone_settings.file and source is None else []
    start += [source] if source is not None else []
    digest = content_digest(files.index, *data, *start)
    stored = [file_state(file) for file in files.features]
    checkpoint = Checkpoint(
        files.output,
        fingerprint(settings.model_dump(), files.seed, files.splits, digest, stored, code),
    )
    run = Run(
        checkpoint=checkpoint,
        seed=files.seed,
        world=world,
        workers=loader_workers(files.threads, world.device)
        if files.workers is None
        else files.workers,
        checkpoint_seconds=60 * files.checkpoint_minutes,
        description=stage,
    )
    history = History()
    if learner.task is not None:
        history = train(
            learner.network,
            learner.task,
            images,
            settings.training,
            backbone_settings.bfloat16_pays,
            run,
        )
    if files.features:
        # What was trained on features is kept as a network that sees images.
        learner.network.backbone = backbone.requires_grad_(False)
    description = {
        **learner.description,
        "classes": list(index.classes),
        "backbone": backbone_settings.model_dump(),
        "precision": settings.training.precision,
    }
    if world.leads:
        history.write(files.output.with_name(HISTORY_NAME))
        save_network(files.output, learner.network, description)
        checkpoint.remove()
        loss = (
            f"loss {history.rows[-1]['loss']:.4f} in the last epoch"
            if history.rows
            else "untrained"
        )
        logger.info("wrote %s, %s", files.output, loss)
    world.leave()
    return description if world.leads else None
