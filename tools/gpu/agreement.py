"""Does a device compute what the CPU computes?"""

from collections.abc import Iterator
from copy import deepcopy

import numpy as np
import torch

from tools.gpu.check import Check
from tools.gpu.material import CPU, LEARNERS, Learner, Material, on, save
from workflow_scripts.datasets.transforms import rescale_to
from workflow_scripts.models.classification import cam_activations
from workflow_scripts.models.per_pixel import amn_activations
from workflow_scripts.models.views import resize_by_integers, upload
from workflow_scripts.refinement.prediction import predict
from workflow_scripts.refinement.random_walk import BoundaryWalk
from workflow_scripts.storage.activation_maps import ActivationMaps, AmnMaps, CamMaps, add_scales
from workflow_scripts.storage.shard_files import strided_size
from workflow_scripts.training.checkpoint import Checkpoint
from workflow_scripts.training.distributed import World
from workflow_scripts.training.loop import Run, Trainer
from workflow_scripts.training.precision import autocast, set_arithmetic

# Difference of activations, as a share of the largest value, that all but a thousandth keep, by arithmetic.
MOST = 0.999
TOLERANCES = {"float32": 1e-3, "bfloat16": 2e-2}
LEAST_SHARE_OF_LABELS = 0.995
LOSS_TOLERANCE = 1e-3
STEPS, BATCH = 3, 2


def checks(material: Material) -> Iterator[Check]:
    """Every stage of the device against the CPU."""
    yield resized_images(material)
    for name in ("cam", "amn"):
        for precision in TOLERANCES:
            # Networks for which it does not pay are never computed in half precision by themselves.
            if precision == "float32" or material.training(name).backbone.bfloat16_pays:
                yield activations(material, name, precision)
    yield propagation(material)
    yield segmentation(material)
    for name in LEARNERS:
        yield training(material, name)


def resized_images(material: Material) -> Check:
    """Images are resized to the same bytes."""
    image = material.scenes[0].image
    pixels = upload([image], material.device)
    different = 0
    for scale in material.settings.inference("cam").scales:  # type: ignore[attr-defined]
        size = [max(1, round(side * scale)) for side in image.shape[:2]]
        found = resize_by_integers(pixels, *size)[0].cpu().numpy()
        different += int((found != rescale_to(image, *size)).sum())
    return Check("resized images", different == 0, f"{different} bytes differ from Pillow's")


def activations(material: Material, name: str, precision: str) -> Check:
    """Maps of all scales, of a batch on the device and image by image on the CPU in float32."""
    of_images = cam_activations if name == "cam" else amn_activations
    network = material.learner(name).network
    images = material.labelled()[:3]
    scales = material.settings.inference(name).scales  # type: ignore[attr-defined]
    set_arithmetic(precision)
    ours = on(network, material.device)
    with autocast(getattr(torch, precision), material.device):
        found = of_images(ours, images, scales, material.device)
    exact = on(network, CPU)
    largest = 0.0
    for image, maps in zip(images, found, strict=True):
        [expected] = of_images(exact, [image], scales, CPU)
        largest = max(largest, _difference(_added(maps), _added(expected)))
    limit = TOLERANCES[precision]
    return Check(f"{name} in {precision}", largest <= limit, f"{largest:.1e}, at most {limit:.0e}")


def _added(maps: ActivationMaps) -> np.ndarray:
    """The maps of all scales, added up at stride 4: what activations are made of.

    Of AMN's those of background and the image's labels: others are ordered by shares, nearly equal here.
    """
    size = strided_size(maps.height, maps.width)
    if isinstance(maps, AmnMaps):
        return add_scales(maps.logits, *size)[: 1 + maps.channels]
    assert isinstance(maps, CamMaps)
    return add_scales(maps.maps, *size)


def _difference(found: np.ndarray, expected: np.ndarray) -> float:
    difference = np.quantile(np.abs(found - expected), MOST)
    return float(difference / max(np.abs(expected).max(), 1e-12))


def propagation(material: Material) -> Check:
    """Boundaries and the walk over them, in float32."""
    learner = material.learner("boundary")
    path = save(
        material.folder / "boundary.safetensors", learner, "boundary", learner.settings.backbone
    )
    scenes = material.scenes[:2]
    images = [scene.image for scene in scenes]
    starts = [scene.cam_maps().strided() for scene in scenes]
    settings = material.settings.boundary.propagate
    found, expected = (
        BoundaryWalk(path, settings, device).propagated(images, starts)
        for device in (material.device, CPU)
    )
    largest = max(_difference(*pair) for pair in zip(found, expected, strict=True))
    limit = TOLERANCES["float32"]
    return Check("propagation in float32", largest <= limit, f"{largest:.1e}, at most {limit:.0e}")


def segmentation(material: Material) -> Check:
    """Labels in float32, without the CRF, which runs on the CPU in any case."""
    network = material.learner("segmentation").network
    settings = material.settings.evaluate_segmentation.model_copy(update={"refine": False})
    set_arithmetic("float32")
    ours, exact = on(network, material.device), on(network, CPU)
    same = [
        np.mean(
            predict(ours, scene.image, settings, material.device)
            == predict(exact, scene.image, settings, CPU)
        )
        for scene in material.scenes[:2]
    ]
    share = float(np.mean(same))
    said = f"{100 * share:.2f} % equal labels, at least {100 * LEAST_SHARE_OF_LABELS:.1f} %"
    return Check("segmentation", share >= LEAST_SHARE_OF_LABELS, said)


def losses(
    learner: Learner, material: Material, device: torch.device, steps: int = STEPS
) -> list[float]:
    """Losses of some steps in float32 on a batch that stays the same."""
    network = deepcopy(learner.network)
    settings = learner.settings.training.model_copy(
        update={"batch_size": BATCH, "precision": "float32"}
    )
    run = Run(Checkpoint(material.folder / "none", ""), 0, World(0, 1, device), 0, 1e9, "check")
    network.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    network.train()
    set_arithmetic("float32")
    trainer = Trainer(network, learner.task, settings, torch.float32, run)
    batch = material.batch(BATCH, settings.augmentation.crop, network.backbone, device)
    return [float(trainer.step(batch)) for _ in range(steps)]


def training(material: Material, name: str) -> Check:
    """The losses of a few steps, with the optimiser's own kernels."""
    learner = material.learner(name)
    found, expected = (losses(learner, material, device) for device in (material.device, CPU))
    largest = max(abs(a - b) / abs(b) for a, b in zip(found, expected, strict=True))
    said = f"losses differ by {largest:.1e} in {STEPS} steps, at most {LOSS_TOLERANCE:.0e}"
    return Check(f"training of {name}", largest <= LOSS_TOLERANCE, said)
