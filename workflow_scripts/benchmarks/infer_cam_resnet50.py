"""Class activation maps of an image by a ResNet-50, at four scales with mirror images."""

import numpy as np
import torch
from torch import Tensor

from workflow_scripts.benchmarks.comparison import Comparison, timed_pair
from workflow_scripts.benchmarks.networks import BACKBONE, both_layouts, random_backbone
from workflow_scripts.benchmarks.scenes import STORED_STRIDE, scenes
from workflow_scripts.models.cam import CamNetwork
from workflow_scripts.models.cam_activations import CELLS, cam_activations
from workflow_scripts.models.inference import normalise_by_maximum, sum_over_scales
from workflow_scripts.refinement.thresholding import local_labels
from workflow_scripts.settings.backbone import BackboneSettings
from workflow_scripts.settings.cam import InferCamSettings
from workflow_scripts.training.precision import autocast, choose_dtype

CLASSES = 20
THRESHOLD = 0.30
CPU = torch.device("cpu")


def measure(
    rounds: int = 3,
    *,
    height: int = 333,
    width: int = 500,
    scales: tuple[float, ...] = InferCamSettings().scales,
) -> Comparison:
    """Compare on one image at a time, the same weights, all cores."""
    backbone = random_backbone(BackboneSettings(name=BACKBONE))
    plain, ours = both_layouts(CamNetwork(backbone, CLASSES).eval())
    dtype = choose_dtype("auto", BACKBONE, CPU)
    size = (-(-height // STORED_STRIDE), -(-width // STORED_STRIDE))
    (scene,) = scenes(1, height, width)

    def reference() -> Tensor:
        maps = sum_over_scales(
            scene.image,
            scales,
            size,
            backbone,
            lambda batch: plain.activations(batch.contiguous()),
            CPU,
            multiple=CELLS,
        )
        return normalise_by_maximum(maps[torch.tensor(scene.labels) - 1])

    def workflow() -> Tensor:
        with autocast(dtype, CPU):
            return cam_activations(ours, scene.image, scene.labels, size, scales, CPU)

    timed_pair(reference, workflow)
    pairs, equal = [], []
    for _ in range(rounds):
        pair, results = timed_pair(reference, workflow)
        pairs.append(pair)
        expected, found = (local_labels(maps.numpy(), THRESHOLD) for maps in results)
        equal.append(np.mean(expected == found))
    return Comparison(
        pairs,
        "seconds an image",
        float(np.mean(equal)),
        "equal labels",
        f"{width}×{height}, {len(scales)} scales, mirror images; reference: float32, contiguous; "
        f"ours: {str(dtype).removeprefix('torch.')}, channels_last",
    )
