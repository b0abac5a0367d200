"""Activations of whole images, propagated by a random walk over a boundary network's boundaries."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from workflow_scripts.datasets.transforms import normalise
from workflow_scripts.models.backbones import build_backbone
from workflow_scripts.models.boundary import STRIDE, BoundaryNetwork, infer_boundaries
from workflow_scripts.models.trained import described, ready_for_inference
from workflow_scripts.refinement.random_walk import propagate
from workflow_scripts.settings.backbone import BackboneSettings
from workflow_scripts.settings.boundary import PropagateSettings
from workflow_scripts.storage.networks import load_network, read_description
from workflow_scripts.training.precision import autocast, inference_dtype


class BoundaryWalk:
    """A trained boundary network and the walk over the boundaries that it finds."""

    def __init__(self, model: Path, settings: PropagateSettings, device: torch.device) -> None:
        """Load the network; InputError when `model` (model.safetensors of train_boundary) holds none."""
        description = read_description(model, "boundary")
        with described(model):
            network = BoundaryNetwork(build_backbone(BackboneSettings(**description["backbone"])))
        load_network(model, network)
        self.network: BoundaryNetwork = ready_for_inference(network, device)
        self.settings = settings
        self.device = device
        self.dtype = inference_dtype(description, device)

    def propagated(
        self, images: Sequence[np.ndarray], activations: Sequence[np.ndarray]
    ) -> list[np.ndarray]:
        """Propagate the activations of images of one size.

        Args:
            images: uint8 [H, W, 3] each.
            activations: Of each image, float32 [k, ceil(H / 4), ceil(W / 4)], one channel a label.

        Returns:
            Of each image float32 of the shape of its activations, see `normalise_globally`.
        """
        classes = max(map(len, activations))
        if not classes:
            return list(activations)
        height, width = images[0].shape[:2]
        backbone, settings = self.network.backbone, self.settings
        batch = np.stack([normalise(image, backbone.mean, backbone.std) for image in images])
        with autocast(self.dtype, self.device):
            edge, _ = infer_boundaries(
                self.network, torch.from_numpy(batch).to(self.device), settings.least_side
            )
        start = torch.zeros(len(images), classes, *edge.shape[1:])
        for one, activation in zip(start, activations, strict=True):
            one[: len(activation)] = torch.from_numpy(activation)
        scores = propagate(
            start.to(self.device) ** settings.exponent,
            edge,
            radius=settings.radius,
            beta=settings.beta,
            steps=settings.steps,
        )
        return [
            normalise_globally(one, height, width)[: len(activation)].cpu().numpy()
            for one, activation in zip(scores, activations, strict=True)
        ]


def normalise_globally(scores: Tensor, height: int, width: int) -> Tensor:
    """Divide by the largest value after enlargement to full size.

    Args:
        scores: float32 [K, ceil(height / 4), ceil(width / 4)], ≥ 0.
        height: Rows of the image.
        width: Columns of the image.

    Returns:
        The shape of `scores`. Their enlargement lies in 0…1; a peak of one pixel may exceed 1.
    """
    large = F.interpolate(scores[None], scale_factor=STRIDE, mode="bilinear", align_corners=False)
    largest = large[..., :height, :width].max()
    return scores / largest.clamp(min=torch.finfo().tiny)
