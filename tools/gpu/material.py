"""What is computed in the check: VOC's configuration, or a miniature of it, networks and photographs.

On a GPU networks, scales, crops and batches are those of config/voc12.yaml; weights are random. On a CPU,
which stands in, all is small.
"""

from copy import deepcopy
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from torch import Tensor, nn

from tools.benchmarks.networks import random_backbone
from tools.benchmarks.scenes import Scene, scenes
from workflow_scripts.doors.backbone import BackboneSettings
from workflow_scripts.doors.method import LabelledImage
from workflow_scripts.errors import InputError
from workflow_scripts.models.boundary import BoundaryNetwork
from workflow_scripts.models.feature_maps import Backbone, load_backbone
from workflow_scripts.models.trained import ready_for_inference
from workflow_scripts.models.views import normalised, upload
from workflow_scripts.planning.configuration import WorkflowSettings, read_configuration
from workflow_scripts.storage.networks import save_network
from workflow_scripts.train import MethodTask
from workflow_scripts.train_boundary import InterPixelRelations
from workflow_scripts.train_segmentation import Segmentation
from workflow_scripts.training.loop import Task

ROOT = Path(__file__).resolve().parents[2]
CLASSES = 20
CPU = torch.device("cpu")
LEARNERS = ("cam", "amn", "boundary", "segmentation")
SMALL_BACKBONE = {"name": "efficientnet_lite0", "frozen_stages": 1}


@dataclass(frozen=True)
class Learner:
    """A network of the workflow with what it is taught."""

    network: nn.Module
    task: Task
    settings: Any
    """Of its training stage."""


@dataclass(frozen=True)
class Material:
    """What the checks share.

    Attributes:
        device: What is checked against the CPU.
        folder: Where files go.
        settings: The configuration whose numbers are used.
        height: Rows of the photographs.
        width: Their columns.
        images: How many photographs there are.
        repeated: How many images are inferred to measure speed.
        steps: How many steps are trained to measure speed.
    """

    device: torch.device
    folder: Path
    settings: WorkflowSettings
    height: int
    width: int
    images: int
    repeated: int
    steps: int

    @property
    def scenes(self) -> tuple[Scene, ...]:
        """The photographs."""
        return scenes(self.images, self.height, self.width)

    def labelled(self) -> list[LabelledImage]:
        """The photographs with labels and seeds."""
        return [LabelledImage(one.image, one.labels, CLASSES, one.mask) for one in self.scenes]

    def learner(self, name: str, seed: int = 0) -> Learner:
        """One of `LEARNERS`, with random weights and without dropout, on the CPU."""
        settings = self.training(name)
        # The small one comes with its weights; random ones of it give maps of rounding errors.
        small = settings.backbone.name == SMALL_BACKBONE["name"]
        backbone = deepcopy((_loaded if small else random_backbone)(settings.backbone))
        torch.manual_seed(seed)
        if name == "boundary":
            network: nn.Module = BoundaryNetwork(backbone)
            return Learner(network, InterPixelRelations(settings.radius), settings)
        if name == "segmentation":
            network = settings.build(backbone, CLASSES)
            return Learner(without_dropout(network), Segmentation(settings), settings)
        method = self.settings.entry(name)(settings)
        network = without_dropout(method.build(backbone, CLASSES))
        return Learner(network, MethodTask(method, network), settings)

    def training(self, name: str) -> Any:
        """Settings of the training stage of a learner."""
        if name == "boundary":
            return self.settings.boundary.train
        return (
            self.settings.train_segmentation
            if name == "segmentation"
            else self.settings.training(name)
        )

    def batch(self, size: int, crop: int, backbone: Any, device: torch.device) -> dict[str, Tensor]:
        """Photographs as a training sees them."""
        chosen = [self.scenes[number % self.images] for number in range(size)]
        images = [_padded(one.image, crop, 0) for one in chosen]
        masks = [_padded(one.mask, crop, 255) for one in chosen]
        labels = torch.zeros(size, CLASSES)
        for row, one in zip(labels, chosen, strict=True):
            row[torch.tensor(one.labels, dtype=torch.long) - 1] = 1
        views = normalised(upload(images, device), backbone.mean, backbone.std)
        return {
            "image": views,
            "mask": torch.from_numpy(np.stack(masks)).to(device),
            "labels": labels.to(device),
        }


@cache
def _loaded(settings: BackboneSettings) -> Backbone:
    return load_backbone(settings)


def _padded(array: np.ndarray, crop: int, value: int) -> np.ndarray:
    part = array[:crop, :crop]
    rest = [(0, crop - part.shape[0]), (0, crop - part.shape[1]), (0, 0)]
    return np.pad(part, rest[: part.ndim], constant_values=value)


def without_dropout(network: nn.Module) -> nn.Module:
    """The network with random numbers left out: devices draw others."""
    for module in network.modules():
        if isinstance(module, (nn.Dropout, nn.Dropout2d)):
            module.p = 0.0
    return network


def on(network: nn.Module, device: torch.device) -> Any:
    """A copy of a network, ready for inference on a device."""
    return ready_for_inference(deepcopy(network), device)


def save(path: Path, learner: Learner, kind: str, backbone: BackboneSettings) -> Path:
    """Write a network as a training does."""
    description = {
        "kind": kind,
        "version": 1,
        "classes": [f"class {number}" for number in range(1, CLASSES + 1)],
        "backbone": backbone.model_dump(),
        "precision": "float32",
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    save_network(path, learner.network, description)
    return path


def material(device: torch.device, folder: Path) -> Material:
    """The material for a device."""
    values = _read("voc12.yaml")
    if device.type == "cuda":
        settings = read_configuration(values, "config/voc12.yaml")
        return Material(device, folder, settings, 375, 500, images=16, repeated=480, steps=40)
    laid_over = _laid_over(values, _read("miniature.yaml"))
    for section in (
        laid_over["train_cam"],
        laid_over["train_amn"],
        laid_over["boundary"]["train"],
        laid_over["train_segmentation"],
    ):
        section["backbone"] = dict(SMALL_BACKBONE)
        section["training"]["augmentation"] = {"resize": "none", "crop": 64}
    for name in ("train_amn", "train_segmentation"):
        laid_over[name]["dilations"] = [1, 2]
    settings = read_configuration(laid_over, "config/miniature.yaml")
    return Material(device, folder, settings, 48, 64, images=3, repeated=6, steps=2)


def _read(name: str) -> dict[str, Any]:
    path = ROOT / "config" / name
    try:
        values: dict[str, Any] = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"{path}: not readable ({error.strerror}); run from a checkout") from None
    return values


def _laid_over(lower: dict[str, Any], upper: dict[str, Any]) -> dict[str, Any]:
    """A configuration over another, as Snakemake lays them."""
    merged = dict(lower)
    for key, value in upper.items():
        below = merged.get(key)
        both = isinstance(below, dict) and isinstance(value, dict)
        merged[key] = _laid_over(below, value) if both else deepcopy(value)  # type: ignore[arg-type]
    return merged
