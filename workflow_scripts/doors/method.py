"""The door of methods: how a network's activations of the classes come about from image labels.

An entry is a file with a class derived from `Method`. Everything behind its activations comes for free:
thresholds, seeds, CRF, boundaries, pseudo-masks, segmentation, sweeps, report, cluster. In a configuration,
a method called `mine` is asked for by `methods: [cam, mine]` and set by `train_mine`, `infer_mine` and
`refine_seeds: {mine: …}`; `variants` are further methods with other values.
"""

import re
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field

from workflow_scripts.backbones.resnet import ResNet
from workflow_scripts.doors.backbone import BackboneSettings
from workflow_scripts.doors.door import Door, check, place_of
from workflow_scripts.errors import InputError
from workflow_scripts.settings.base import Settings, validate
from workflow_scripts.settings.refinement import SeedSettings
from workflow_scripts.settings.training import Scale, TrainingSettings

if TYPE_CHECKING:
    import numpy as np
    import torch
    from torch import Tensor, nn

    from workflow_scripts.models.feature_maps import Backbone
    from workflow_scripts.storage.activation_maps import ActivationMaps


class Reads(StrEnum):
    """What a method learns from beside images and their labels."""

    NOTHING = "nothing"
    SEEDS = "seeds"
    """Seeds of another method: its training and its activations see them."""
    NETWORK = "network"
    """The trained network of another method, which its own starts from."""


class TrainSettings(Settings):
    """What the training of a network on a backbone can be told; an entry's `Train` derives from it."""

    backbone: BackboneSettings = ResNet()
    training: TrainingSettings = TrainingSettings()


class ContinuedSettings(Settings):
    """The same for a method that reads a network: its backbone is that one's."""

    training: TrainingSettings = TrainingSettings()


class InferSettings(Settings):
    """Scales of multi-scale activations; an entry's `Infer` may have others."""

    scales: tuple[Scale, ...] = Field(
        (1.0, 0.5, 1.5, 2.0), min_length=1, description="image scales, each with its mirror image"
    )


@dataclass(frozen=True)
class LabelledImage:
    """An image as a method's activations see it.

    Attributes:
        pixels: uint8 [H, W, 3].
        labels: Its class numbers, ascending, from 1; none, where `maps` names a class, for an image that
            shows none.
        classes: C, the number of classes.
        seed: Where the method reads seeds, that of this image: uint8 [H, W] of class
            numbers, 0 background, 255 unknown.
    """

    pixels: "np.ndarray"
    labels: tuple[int, ...]
    classes: int
    seed: "np.ndarray | None" = None


class Method(ABC):
    """A way from images and their labels to activations.

    A method is made of its training's settings, `Method(settings)`, both to train and to infer: a network's
    description keeps them all, except `training`.

    Attributes:
        name: How a configuration asks for it.
        title: How reports call it; its name, short ones in capitals, if left out, and where it is in a file
            of `plugins`, which reports do not load.
        reads: What it learns from beside images and labels.
        source: The method that it reads from, unless a variant says otherwise (`seeds_from`).
        trains: False where nothing is learnt: `train` writes the network as `build` and `prepare` leave it.
        seeds: Thresholds of the seeds made of its activations, where a configuration does not say.
        maps: How its activations are stored: None for arrays (at stride 4), or a class of
            `storage/activation_maps.py`, whose instances `activations` returns then.
        Train: Settings of its training.
        Infer: Settings of its activations, which do not concern training.
    """

    name: ClassVar[str]
    title: ClassVar[str] = ""
    reads: ClassVar[Reads] = Reads.NOTHING
    source: ClassVar[str] = "cam"
    trains: ClassVar[bool] = True
    seeds: ClassVar[SeedSettings] = SeedSettings()
    Train: ClassVar[type[TrainSettings | ContinuedSettings]] = TrainSettings
    Infer: ClassVar[type[Settings]] = InferSettings

    def __init__(self, settings: Any) -> None:
        self.settings = settings

    @classmethod
    def maps(cls) -> "type[ActivationMaps] | None":
        """How activations are stored: None for arrays, or a class of maps of the network's own sizes."""
        return None

    @abstractmethod
    def build(self, backbone: "Backbone", classes: int) -> "nn.Module":
        """The network on a backbone, freshly initialised.

        Its part that learns at the backbone's rate is its attribute `backbone`; all else is new layers.
        """

    def prepare(self, network: "nn.Module", classes: Sequence[str]) -> None:  # noqa: B027
        """Give a network, before it is trained, what follows from the classes' names; by default nothing.

        Args:
            network: What `build` returned.
            classes: Names of the classes, in their order.
        """

    def start(self, network: "nn.Module", source: Path) -> None:
        """Put the tensors of the source's network into this one, for methods that read a network.

        By default all of them, under the same names; new layers keep their initial values.

        Args:
            network: What `build` returned.
            source: model.safetensors of the source.
        """
        from workflow_scripts.models.trained import take_over

        take_over(network, source)

    def counts(self, network: "nn.Module", batch: "Mapping[str, Tensor]") -> "Tensor":
        """Numbers that the means of the loss are over, for a part of a batch: [n]; by default its images.

        Args:
            network: What `build` returned.
            batch: `image` float32 [B, 3, S, S], `labels` 0/1 float32 [B, C], and for methods that read
                seeds `mask` uint8 [B, S, S].
        """
        import torch

        # Filled where it is needed: a copy would wait for the GPU.
        return torch.full((1,), float(len(batch["image"])), device=batch["image"].device)

    @abstractmethod
    def loss(
        self, network: "nn.Module", batch: "Mapping[str, Tensor]", counts: "Tensor"
    ) -> "Tensor":
        """Loss of a part of a batch: sums divided by the counts of the whole batch, so that parts add up.

        Args:
            network: The network in training mode, perhaps wrapped: call it, do not look into it.
            batch: See `counts`.
            counts: Of the whole batch.
        """

    @abstractmethod
    def activations(
        self, network: "nn.Module", image: LabelledImage, infer: Any, device: "torch.device"
    ) -> "np.ndarray | ActivationMaps":
        """Activations of one image's labels.

        `models/multi_scale.py` has multi-scale inference with mirror images.

        Args:
            network: The trained network in evaluation mode, on `device`.
            image: The image; it has labels.
            infer: The method's `Infer`.
            device: Where to compute.

        Returns:
            float [k, h, w] in 0…1 at any resolution, a channel for each label in ascending order; or what
            `maps` says.
        """

    def activations_together(
        self,
        network: "nn.Module",
        images: "Sequence[LabelledImage]",
        infer: Any,
        device: "torch.device",
    ) -> "Sequence[np.ndarray | ActivationMaps]":
        """Activations of images of one size; by default of one after the other.

        A GPU works faster on several: a method that can should say how.
        """
        return [self.activations(network, image, infer, device) for image in images]

    def image_logits(self, network: Any, images: "Tensor") -> "Tensor | None":
        """What a network says of whole images: logits of their labels, [B, 3, H, W] → [B, C].

        By default None: the network does not classify images, as one that is given their labels.

        Args:
            network: The trained network in evaluation mode.
            images: Normalised images.
        """
        return None

    def description(self) -> dict[str, Any]:
        """What rebuilds the network beside backbone and classes: all settings but those of training."""
        values = self.settings.model_dump(mode="json")
        return {key: value for key, value in values.items() if key not in ("training", "backbone")}

    @classmethod
    def described(cls, description: Mapping[str, Any]) -> "Method":
        """The method of a trained network, from its description."""
        known = {k: v for k, v in description.items() if k in cls.Train.model_fields}
        return cls(validate(cls.Train, known, "a network's description"))


# Names that other sections of a configuration, or folders of results, have already.
RESERVED = ("full", "segmentation", "boundary", "inference", "refinement", "dataset", "logs")
# What stages and descriptions of networks call their own: no setting of a method can be called so.
TAKEN_FIELDS = frozenset({
    "index", "splits", "split", "shard", "shards", "output", "seed", "seeds", "source", "model", "device",
    "workers", "checkpoint_minutes", "features", "log", "threads", "plugins",
    "kind", "classes", "precision", "imported_from",
})  # fmt: skip


class _MethodDoor(Door[Method]):
    """Methods, whose names become folders and keys."""

    def add(self, entry: type[Method]) -> None:
        """Take the entry of a plug-in."""
        check(entry, Method)
        for name in self.names_of(entry):
            if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_]*", name) or name in RESERVED:
                raise InputError(
                    f"{place_of(entry)}: a method cannot be called `{name}`: expected letters, digits and "
                    f"underscores, and none of {', '.join(RESERVED)}"
                )
        lacking = {"training", *(() if entry.reads is Reads.NETWORK else ("backbone",))}
        lacking -= entry.Train.model_fields.keys()
        if lacking:
            raise InputError(
                f"{place_of(entry.Train)}: class {entry.Train.__name__} lacks `{min(lacking)}`; expected a "
                "class derived from `TrainSettings`, or from `ContinuedSettings` for a method that reads a "
                "network"
            )
        for settings in (entry.Train, entry.Infer):
            taken = sorted(TAKEN_FIELDS & settings.model_fields.keys())
            if taken:
                raise InputError(
                    f"{place_of(settings)}: `{taken[0]}` cannot be a setting: stages have a flag, or "
                    "networks a description, of that name; call it otherwise"
                )
        super().add(entry)


METHODS = _MethodDoor("method", "workflow_scripts.methods", Method)
