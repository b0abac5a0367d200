"""Pseudo-masks of single images with the networks and the configuration of a finished run."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml

from workflow_scripts.datasets.index import read_classes
from workflow_scripts.errors import InputError
from workflow_scripts.models.amn import AmnNetwork
from workflow_scripts.models.amn_activations import amn_activations, load_amn
from workflow_scripts.models.cam import CamNetwork
from workflow_scripts.models.cam_activations import cam_activations, load_cam
from workflow_scripts.refinement.random_walk import BoundaryWalk
from workflow_scripts.refinement.thresholding import (
    confident_seed,
    dataset_labels,
    local_labels,
    refined_labels,
)
from workflow_scripts.settings.amn import InferAmnSettings
from workflow_scripts.settings.base import validate
from workflow_scripts.settings.boundary import PropagateSettings
from workflow_scripts.settings.cam import InferCamSettings
from workflow_scripts.settings.pseudo_masks import PseudoMaskSettings
from workflow_scripts.settings.seeds import SeedSettings
from workflow_scripts.storage.activation_maps import ActivationMaps
from workflow_scripts.storage.activations import enlarged
from workflow_scripts.storage.chosen_thresholds import read_thresholds, seed_thresholds
from workflow_scripts.training.precision import autocast, inference_dtype

CONFIGURATION_NAME = "config.yaml"
CAM = "cam"


def read_configuration(run: Path) -> dict[str, Any]:
    """Return the resolved configuration of a run.

    Raises InputError when the folder is no run, or one of a version that did not record it.
    """
    path = run / CONFIGURATION_NAME
    if not run.is_dir():
        raise InputError(f"{run}: no such folder; give the folder of a run, results/<run>")
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(
            f"{path}: no such file. Finish the run, `snakemake all`; a run of an older version"
            " writes it when the workflow is run again."
        ) from None
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise InputError(
            f"{path}: not readable ({error}); delete it and run the workflow"
        ) from None
    for key in ("infer_cam", "infer_amn", "refine_seeds", "pseudo_masks", "thresholds"):
        if not isinstance(values, dict) or key not in values:
            raise InputError(
                f"{path}: has no `{key}`, so it was written by another version of the workflow; run"
                " the workflow again"
            )
    return values


@dataclass(frozen=True)
class RunSettings:
    """What a run's configuration says about the way from an image to its pseudo-mask."""

    infer_cam: InferCamSettings
    infer_amn: InferAmnSettings
    pseudo_masks: PseudoMaskSettings
    seed_settings: SeedSettings
    seed_thresholds: tuple[float, float]
    threshold: float
    propagate: PropagateSettings | None
    """Set where the run refines activations along learnt boundaries."""

    @classmethod
    def of(cls, run: Path, trial: int, method: str, threshold: float | None) -> "RunSettings":
        """Read them; `threshold` replaces the run's own.

        Raises InputError when the method's seeds were imported.
        """
        values = read_configuration(run)
        where = str(run / CONFIGURATION_NAME)
        variant = (values.get("variants") or {}).get(method) or {}
        if variant.get("seeds_from", CAM) != CAM or method in (values.get("imports") or {}):
            raise InputError(
                f"method {method!r} rests on imported activations or seeds, which new images do not"
                " have; name another --method"
            )
        seeds = validate(SeedSettings, values["refine_seeds"][CAM], where)
        boundary = values.get("boundary") or {}
        chosen = run / str(trial) / CAM / str(seeds.chosen_by) / "seed_thresholds.json"
        return cls(
            validate(InferCamSettings, values["infer_cam"], where),
            validate(InferAmnSettings, values["infer_amn"], where),
            validate(PseudoMaskSettings, values["pseudo_masks"], where),
            seeds,
            seed_thresholds(seeds, chosen if seeds.chosen_by else None),
            _threshold(values, run / str(trial) / method) if threshold is None else threshold,
            validate(PropagateSettings, boundary.get("propagate") or {}, where)
            if boundary.get("enabled")
            else None,
        )


def _threshold(values: dict[str, Any], folder: Path) -> float:
    first = values["thresholds"][0]
    if isinstance(first, str):
        return read_thresholds(folder / first / "thresholds.json").pseudo_mask
    return float(first)


class Labeller:
    """Makes the pseudo-mask of an image from its labels."""

    def __init__(
        self, run: Path, trial: int, method: str, threshold: float | None, device: torch.device
    ) -> None:
        """Load the networks; raises InputError when the run is not finished or not readable."""
        self.settings = RunSettings.of(run, trial, method, threshold)
        self.classes = read_classes(run / "dataset" / "classes.csv")
        self.device = device
        weights = run / str(trial)
        self.cam: CamNetwork
        self.cam, description = load_cam(weights / CAM / "model.safetensors", self.classes, device)
        self.cam_dtype = inference_dtype(description, device)
        self.amn: AmnNetwork | None = None
        if method != CAM:
            self.amn, description = load_amn(
                weights / method / "model.safetensors", self.classes, device
            )
            self.amn_dtype = inference_dtype(description, device)
        self.walk: BoundaryWalk | None = None
        if self.settings.propagate:
            model = weights / method / "boundary" / "model.safetensors"
            self.walk = BoundaryWalk(model, self.settings.propagate, device)

    def activations(self, image: np.ndarray, labels: Sequence[int]) -> np.ndarray:
        """Return the activations of an image at its full size, float32 [len(labels), H, W].

        Args:
            image: uint8 [H, W, 3].
            labels: Its class numbers, from 1.
        """
        maps = self._class_activation_maps(image, labels)
        if self.amn is not None:
            maps = self._amn_activations(self.amn, image, labels, maps.activation())
        if self.walk is None:
            return maps.activation()
        [propagated] = self.walk.propagated([image], [maps.strided()])
        # As in the shards of a run: the same pixels cross the threshold.
        return enlarged(propagated.astype(np.float16), *image.shape[:2])

    def _class_activation_maps(self, image: np.ndarray, labels: Sequence[int]) -> ActivationMaps:
        scales = self.settings.infer_cam.scales
        with autocast(self.cam_dtype, self.device):
            return cam_activations(self.cam, image, labels, scales, self.device).as_stored()

    def _amn_activations(
        self, amn: AmnNetwork, image: np.ndarray, labels: Sequence[int], of_cam: np.ndarray
    ) -> ActivationMaps:
        settings = self.settings
        foreground, background = refined_labels(
            image,
            of_cam,
            settings.seed_thresholds,
            settings.seed_settings.gt_prob,
            settings.seed_settings.crf,
        )
        with autocast(self.amn_dtype, self.device):
            return amn_activations(
                amn,
                image,
                labels,
                len(self.classes),
                confident_seed(foreground, background),
                settings.infer_amn.scales,
                self.device,
            ).as_stored()

    def mask(self, image: np.ndarray, labels: Sequence[int]) -> np.ndarray:
        """Return the pseudo-mask of an image, uint8 [H, W]; background without labels."""
        if not labels:
            return np.zeros(image.shape[:2], np.uint8)
        settings = self.settings
        activations = self.activations(image, labels)
        if settings.pseudo_masks.refinement == "none":
            local = local_labels(activations, settings.threshold)
        else:
            [local] = refined_labels(
                image,
                activations,
                [settings.threshold],
                settings.pseudo_masks.gt_prob,
                settings.pseudo_masks.crf,
            )
        return dataset_labels(local, labels)
