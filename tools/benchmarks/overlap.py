"""Wall time of a stage whose network is a wait of known length: reading and writing hide behind it.

The bound is the larger of what the device takes and what the host's work takes, shared by the threads that do
it; what fills and empties the pipeline comes on top of it. Ours over the bound is what is lost.
"""

import threading
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch

from tools.benchmarks.comparison import Comparison, timed
from tools.benchmarks.host_cost import CLASSES, CPU, Photographs, photographs, processor_seconds
from tools.benchmarks.scenes import SCALES, Scene
from workflow_scripts.datasets.images import read_image
from workflow_scripts.datasets.index import ImageRecord
from workflow_scripts.datasets.parallel import in_threads
from workflow_scripts.doors.method import LabelledImage
from workflow_scripts.infer import activations
from workflow_scripts.refinement.dense_crf import refine, unary_from_probabilities
from workflow_scripts.settings.evaluation import EvaluateSegmentationSettings
from workflow_scripts.storage.activation_maps import CamMaps
from workflow_scripts.storage.activations import ActivationWriter
from workflow_scripts.storage.masks import MaskWriter
from workflow_scripts.training.inference_pipeline import (
    Kind,
    bytes_of,
    in_batches,
    written_behind,
)

WORKERS = 2
# Of an image, of a GPU that sees eighty images a second.
DEVICE_SECONDS = 0.0125
CRF = EvaluateSegmentationSettings().crf


def waiting(seconds: float) -> None:
    """Wait as for a GPU: without the interpreter's lock."""
    if seconds:
        threading.Event().wait(seconds)


def inference(shown: Photographs, made: dict[str, CamMaps], device_seconds: float) -> None:
    """CAM's activations of all images, of which the network takes so many seconds each."""
    given = iter(shown.records)

    def read(record: ImageRecord) -> tuple[ImageRecord, LabelledImage]:
        return record, LabelledImage(read_image(record.path), tuple(record.labels), CLASSES)

    def network(images: Sequence[LabelledImage]) -> list[CamMaps]:
        waiting(device_seconds * len(images))
        return [made[next(given).id] for _ in images]

    output = shown.folder / "activations.safetensors"
    with (
        ActivationWriter(output, shown.records, CamMaps) as writer,
        written_behind(writer.write) as write,
    ):
        found = activations(shown.records, read, network, max(SCALES), CPU, WORKERS)
        for record, maps in found:
            write(record.id, maps)


def refined(shown: Photographs, made: dict[str, np.ndarray], device_seconds: float) -> None:
    """Predictions of all images, each refined by a dense CRF of three labels."""

    def read(record: ImageRecord) -> tuple[ImageRecord, np.ndarray]:
        return record, read_image(record.path)

    def network(
        some: list[tuple[ImageRecord, np.ndarray]],
    ) -> list[tuple[ImageRecord, np.ndarray, np.ndarray]]:
        waiting(device_seconds * len(some))
        return [(record, image, made[record.id]) for record, image in some]

    def finish(
        one: tuple[ImageRecord, np.ndarray, np.ndarray],
    ) -> tuple[ImageRecord, np.ndarray]:
        record, image, scores = one
        marginals = refine(image, unary_from_probabilities(scores), CRF)
        return record, marginals.argmax(axis=0).astype(np.uint8)

    loaded = in_threads(read, shown.records, WORKERS, bytes_of)
    scored = in_batches(loaded, network, lambda _: Kind(None, 1), lambda one: one[1].nbytes)
    with (
        MaskWriter(shown.folder / "predictions.zip") as writer,
        written_behind(writer.write) as write,
    ):
        for record, mask in in_threads(finish, scored, WORKERS):
            write(record.id, mask)


def scores_of(scene: Scene) -> np.ndarray:
    """Probabilities float32 [3, H, W] as a network might give them."""
    scores = np.full((3, scene.height, scene.width), 0.1, np.float32)
    scores[0], scores[1] = 0.4, np.where(scene.mask > 0, 0.5, 0.1)
    scaled: np.ndarray = scores / scores.sum(axis=0)
    return scaled


# Each with what its network gives, made beforehand.
STAGES: dict[str, tuple[Callable[..., None], Callable[[Scene], Any]]] = {
    "infer_cam": (inference, Scene.cam_maps),
    "evaluate_segmentation": (refined, scores_of),
}


def measure(
    rounds: int = 3, *, stage: str, images: int = 32, height: int = 375, width: int = 500
) -> Comparison:
    """Compare the bound with the wall time, for a device no slower than the host, and for a slower one."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    work, result = STAGES[stage]
    pairs = []
    try:
        with photographs(images, height, width) as shown:
            run = partial(work, shown, {scene.id: result(scene) for scene in shown.scenes})
            run(0.0)
            for _ in range(rounds):
                host = processor_seconds(partial(run, 0.0)) / WORKERS
                for device in (
                    max(host, images * DEVICE_SECONDS),
                    2 * host + images * DEVICE_SECONDS,
                ):
                    seconds, _ = timed(partial(run, device / images))
                    pairs.append((device, seconds))
    finally:
        torch.set_num_threads(threads)
    return Comparison(
        pairs,
        "seconds",
        note=f"{images} images of {width}×{height}, {WORKERS} threads; reference: the larger of device time "
        "and host time / threads; ours: wall time, the network a wait",
        growth=True,
    )
