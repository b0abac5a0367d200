"""Pseudo-masks of images with the networks and the configuration of a finished run."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch

from workflow_scripts.datasets.index import read_classes
from workflow_scripts.datasets.parallel import in_threads
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
from workflow_scripts.training.inference_pipeline import (
    LARGEST_SCALE,
    Kind,
    in_batches,
    kind_of,
    one_by_one,
)
from workflow_scripts.training.precision import autocast, inference_dtype

Maps = np.ndarray | ActivationMaps | None


class Shown(NamedTuple):
    """An image that is to be labelled.

    Attributes:
        name: For messages.
        image: uint8 [H, W, 3].
        labels: Its class numbers, from 1.
    """

    name: str
    image: np.ndarray
    labels: tuple[int, ...]


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

    def maps(self, images: Iterable[Shown], threads: int) -> Iterator[tuple[Shown, Maps]]:
        """What the network says of images, in their order; None of one without labels."""
        if self.source is None:
            given: Iterator[tuple[Shown, np.ndarray | None]] = ((one, None) for one in images)
        else:
            found = self.source.maps(images, threads)
            given = in_threads(self._seeded, found, threads, lambda one: one[0].image.nbytes)
        scale = max(getattr(self.infer, "scales", LARGEST_SCALE))

        def kind(one: tuple[Shown, np.ndarray | None]) -> Kind:
            if not one[0].labels:
                return Kind(None, 1)
            return kind_of(one[0].image.shape, 2 * scale**2, self.device)

        together = partial(one_by_one, self._together, name=lambda one: one[0].name)
        return in_batches(given, together, kind, lambda one: one[0].image.nbytes)

    def _together(
        self, some: Sequence[tuple[Shown, np.ndarray | None]]
    ) -> list[tuple[Shown, Maps]]:
        if not some[0][0].labels:
            return [(one, None) for one, _ in some]
        images = [
            LabelledImage(one.image, one.labels, len(self.classes), seed) for one, seed in some
        ]
        with autocast(self.dtype, self.device):
            found = activations_of(self.method, self.network, images, self.infer, self.device)
        return [(one, maps) for (one, _), maps in zip(some, found, strict=True)]

    def _seeded(self, found: tuple[Shown, Maps]) -> tuple[Shown, np.ndarray | None]:
        """An image with the seed that the source makes of it, uint8 [H, W] of class numbers."""
        one, maps = found
        if maps is None:
            return one, None
        foreground, background = refined_labels(
            one.image, full(maps, one), self.thresholds, self.seeds
        )
        return one, seed_labels(confident_seed(foreground, background), one.labels)


def as_stored(maps: np.ndarray | ActivationMaps) -> np.ndarray | ActivationMaps:
    """Activations as the run's shards give them back: maps, or float32 [k, ceil(H/4), ceil(W/4)]."""
    if isinstance(maps, ActivationMaps):
        return maps.as_stored()
    return maps.astype(np.float16).astype(np.float32)


def full(maps: np.ndarray | ActivationMaps, one: Shown) -> np.ndarray:
    """Activations at full size, float32 [k, H, W]."""
    stored = as_stored(maps)
    if isinstance(stored, ActivationMaps):
        return stored.activation()
    return enlarged(stored, *one.image.shape[:2])


def strided(maps: np.ndarray | ActivationMaps) -> np.ndarray:
    """Activations at stride 4."""
    stored = as_stored(maps)
    return stored.strided() if isinstance(stored, ActivationMaps) else stored


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

    def mask(self, image: np.ndarray, labels: Sequence[int]) -> np.ndarray:
        """Return the pseudo-mask of an image, uint8 [H, W]; background without labels.

        Args:
            image: uint8 [H, W, 3].
            labels: Its class numbers, from 1.
        """
        [(_, mask)] = self.masks([Shown("", image, tuple(labels))], threads=1)
        return mask

    def masks(self, images: Iterable[Shown], threads: int) -> Iterator[tuple[Shown, np.ndarray]]:
        """Return the pseudo-masks of images, in their order; see `training/inference_pipeline.py`."""
        found = self._method.maps(images, threads)
        if self._walk is not None:
            found = self._propagated(found, self._walk, threads)
        return in_threads(self._mask, found, threads, lambda one: one[0].image.nbytes)

    def _propagated(
        self, found: Iterator[tuple[Shown, Maps]], walk: BoundaryWalk, threads: int
    ) -> Iterator[tuple[Shown, Maps]]:
        """Activations at stride 4, spread up to the boundaries."""

        def at_stride(one: tuple[Shown, Maps]) -> tuple[Shown, np.ndarray | None]:
            return one[0], None if one[1] is None else strided(one[1])

        def together(some: Sequence[tuple[Shown, np.ndarray | None]]) -> list[tuple[Shown, Maps]]:
            [(one, activation)] = some
            if activation is None:
                return [(one, None)]
            # As in the shards of a run: the same pixels cross the threshold.
            return [(one, walk.propagated([one.image], [activation])[0])]

        reduced = in_threads(at_stride, found, threads, lambda one: one[0].image.nbytes)
        return in_batches(
            reduced, together, lambda one: Kind(None, 1), lambda one: one[0].image.nbytes
        )

    def _mask(self, found: tuple[Shown, Maps]) -> tuple[Shown, np.ndarray]:
        one, maps = found
        if maps is None:
            return one, np.zeros(one.image.shape[:2], np.uint8)
        threshold: float | np.ndarray = self.threshold
        if self._chosen is not None:
            threshold = self._chosen.of(None, one.labels, self.classes)
        [local] = refined_labels(one.image, full(maps, one), [threshold], self._pseudo_masks)
        return one, dataset_labels(local, one.labels)
