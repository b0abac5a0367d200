"""Pseudo-masks of single images with the networks and the configuration of a finished run."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch

from workflow_scripts.datasets.index import read_classes
from workflow_scripts.doors.method import LabelledImage, Method, Reads
from workflow_scripts.errors import InputError
from workflow_scripts.models.trained import activations_of, load_trained
from workflow_scripts.refinement.random_walk import BoundaryWalk
from workflow_scripts.refinement.thresholding import (
    confident_seed,
    dataset_labels,
    refined_labels,
    seed_labels,
)
from workflow_scripts.settings.base import Settings
from workflow_scripts.settings.refinement import PseudoMaskSettings, SeedSettings
from workflow_scripts.storage.activation_maps import ActivationMaps
from workflow_scripts.storage.activations import enlarged
from workflow_scripts.storage.chosen_thresholds import (
    ChosenThresholds,
    read_thresholds,
    seed_thresholds,
)
from workflow_scripts.training.precision import autocast, inference_dtype


class RunSettings(Protocol):
    """What a run's configuration says about the way from an image to its pseudo-mask."""

    @property
    def imports(self) -> Mapping[str, Any]:
        """Methods whose results were imported."""

    @property
    def thresholds(self) -> Sequence[float | str]:
        """Background thresholds of the pseudo-masks."""

    @property
    def pseudo_masks(self) -> PseudoMaskSettings:
        """How they are refined."""

    @property
    def boundary(self) -> Any:
        """Whether and how activations are spread over boundaries."""

    def entry(self, method: str) -> type[Method]:
        """The entry that a method is."""

    def inference(self, method: str) -> Settings:
        """Settings of its activations."""

    def source(self, method: str) -> str | None:
        """The method that it learns from."""

    def seed_settings(self, method: str) -> SeedSettings:
        """Settings of its seeds."""


def _chosen(settings: RunSettings, folder: Path) -> ChosenThresholds | None:
    first = settings.thresholds[0]
    return read_thresholds(folder / first / "thresholds.json") if isinstance(first, str) else None


class _TrainedMethod:
    """A method of a run with its network and, where it reads seeds, the method that makes them."""

    def __init__(
        self, run: Path, trial: int, name: str, settings: RunSettings, device: torch.device
    ) -> None:
        self.classes = read_classes(run / "dataset" / "classes.csv")
        entry = settings.entry(name)
        model = run / str(trial) / name / "model.safetensors"
        self.method, self.network, description = load_trained(
            model, entry.name, self.classes, device
        )
        self.dtype, self.device = inference_dtype(description, device), device
        self.infer = settings.inference(name)
        self.source: _TrainedMethod | None = None
        source = settings.source(name)
        if entry.reads is Reads.SEEDS and source is not None:
            self.source = _TrainedMethod(run, trial, source, settings, device)
            self.seeds = settings.seed_settings(source)
            place = run / str(trial) / source / str(self.seeds.chosen_by) / "seed_thresholds.json"
            self.thresholds = seed_thresholds(self.seeds, place if self.seeds.chosen_by else None)

    def maps(self, image: np.ndarray, labels: Sequence[int]) -> np.ndarray | ActivationMaps:
        """Activations as the run's shards give them back: maps, or float32 [k, ceil(H/4), ceil(W/4)]."""
        given = LabelledImage(image, tuple(labels), len(self.classes), self._seed(image, labels))
        with autocast(self.dtype, self.device):
            found = activations_of(self.method, self.network, given, self.infer, self.device)
        if isinstance(found, ActivationMaps):
            return found.as_stored()
        return found.astype(np.float16).astype(np.float32)

    def full(self, image: np.ndarray, labels: Sequence[int]) -> np.ndarray:
        """Activations at full size, float32 [k, H, W]."""
        maps = self.maps(image, labels)
        if isinstance(maps, ActivationMaps):
            return maps.activation()
        return enlarged(maps, *image.shape[:2])

    def _seed(self, image: np.ndarray, labels: Sequence[int]) -> np.ndarray | None:
        """The seed that the source makes of the image, uint8 [H, W] of class numbers."""
        if self.source is None:
            return None
        foreground, background = refined_labels(
            image,
            self.source.full(image, labels),
            self.thresholds,
            self.seeds,
        )
        return seed_labels(confident_seed(foreground, background), labels)


class Labeller:
    """Makes the pseudo-mask of an image from its labels."""

    def __init__(
        self,
        run: Path,
        settings: RunSettings,
        trial: int,
        method: str,
        threshold: float | None,
        device: torch.device,
    ) -> None:
        """Load the networks.

        Args:
            run: Folder of a finished run.
            settings: Its resolved configuration.
            trial: Whose networks to use.
            method: Whose activations to use.
            threshold: Replaces the run's own.
            device: Where to compute.

        Raises:
            InputError: The run is not finished or not readable, or the method rests on what was imported.
        """
        rests_on: str | None = method
        while rests_on is not None:
            if rests_on in settings.imports:
                raise InputError(
                    f"method {method!r} rests on imported activations or seeds, which new images do not"
                    " have; name another --method"
                )
            rests_on = settings.source(rests_on)
        self._method = _TrainedMethod(run, trial, method, settings, device)
        self.classes = self._method.classes
        folder = run / str(trial) / method
        self._chosen = _chosen(settings, folder) if threshold is None else None
        if threshold is None:
            first = settings.thresholds[0]
            threshold = self._chosen.pseudo_mask if self._chosen is not None else float(first)
        self.threshold = threshold
        self._pseudo_masks = settings.pseudo_masks
        self._walk: BoundaryWalk | None = None
        if settings.boundary.enabled:
            model = folder / "boundary" / "model.safetensors"
            self._walk = BoundaryWalk(model, settings.boundary.propagate, device)

    def activations(self, image: np.ndarray, labels: Sequence[int]) -> np.ndarray:
        """Return the activations of an image at its full size, float32 [len(labels), H, W].

        Args:
            image: uint8 [H, W, 3].
            labels: Its class numbers, from 1.
        """
        if self._walk is None:
            return self._method.full(image, labels)
        maps = self._method.maps(image, labels)
        strided = maps.strided() if isinstance(maps, ActivationMaps) else maps
        [propagated] = self._walk.propagated([image], [strided])
        # As in the shards of a run: the same pixels cross the threshold.
        return enlarged(propagated.astype(np.float16), *image.shape[:2])

    def mask(self, image: np.ndarray, labels: Sequence[int]) -> np.ndarray:
        """Return the pseudo-mask of an image, uint8 [H, W]; background without labels."""
        if not labels:
            return np.zeros(image.shape[:2], np.uint8)
        activations, refine = self.activations(image, labels), self._pseudo_masks
        threshold: float | np.ndarray = self.threshold
        if self._chosen is not None:
            threshold = self._chosen.of(None, labels, self.classes)
        [local] = refined_labels(image, activations, [threshold], refine)
        return dataset_labels(local, labels)
