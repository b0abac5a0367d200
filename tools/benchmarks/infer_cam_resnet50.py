"""Class activation maps of an image by a ResNet-50, at four scales with mirror images."""

import numpy as np
import torch

from tools.benchmarks.comparison import Comparison, timed_pair
from tools.benchmarks.networks import both_layouts, random_backbone
from tools.benchmarks.scenes import scenes
from workflow_scripts.backbones.resnet import ResNet
from workflow_scripts.doors.method import InferSettings, LabelledImage
from workflow_scripts.models.classification import CamNetwork, cam_activations
from workflow_scripts.models.multi_scale import add_resized, maps_at_scales
from workflow_scripts.refinement.thresholding import local_labels
from workflow_scripts.storage.activation_maps import CamMaps, normalise_by_maximum
from workflow_scripts.training.precision import autocast, choose_dtype

CLASSES = 20
THRESHOLD = 0.30
CPU = torch.device("cpu")


def measure(
    rounds: int = 3,
    *,
    height: int = 333,
    width: int = 500,
    scales: tuple[float, ...] = InferSettings().scales,
) -> Comparison:
    """Compare on one image at a time, the same weights, all cores."""
    backbone = random_backbone(ResNet())
    plain, ours = both_layouts(CamNetwork(backbone, CLASSES).eval())
    dtype = choose_dtype("auto", ResNet.bfloat16_pays, CPU)
    (scene,) = scenes(1, height, width)
    image = LabelledImage(scene.image, scene.labels, CLASSES)

    def reference() -> np.ndarray:
        maps = maps_at_scales(
            scene.image,
            scales,
            backbone,
            lambda batch: plain.activations(batch.contiguous()),
            CPU,
        )
        size = tuple(-(-side // CamMaps.cell) * CamMaps.cell for side in (height, width))
        total = add_resized(maps, *size)[torch.tensor(scene.labels) - 1, :height, :width]
        return normalise_by_maximum(total.numpy())

    def workflow() -> np.ndarray:
        with autocast(dtype, CPU):
            [maps] = cam_activations(ours, [image], scales, CPU)
        return maps.as_stored().activation()

    timed_pair(reference, workflow)
    pairs, equal = [], []
    for _ in range(rounds):
        pair, results = timed_pair(reference, workflow)
        pairs.append(pair)
        expected, found = (local_labels(maps, THRESHOLD) for maps in results)
        equal.append(np.mean(expected == found))
    return Comparison(
        pairs,
        "seconds an image",
        float(np.mean(equal)),
        "equal labels",
        f"{width}×{height}, {len(scales)} scales, mirror images; reference: float32, contiguous; "
        f"ours: {str(dtype).removeprefix('torch.')}, channels_last",
    )
