"""How fast the stages are, for how much of the time the device waits, and how long datasets would take."""

import os
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import torch

from tools.benchmarks.host_cost import photographs
from tools.benchmarks.peak_memory import own_peak
from tools.gpu.material import CLASSES, LEARNERS, Material, on, save
from workflow_scripts.datasets.index import ImageRecord
from workflow_scripts.datasets.parallel import in_threads
from workflow_scripts.doors.method import LabelledImage
from workflow_scripts.infer import activations
from workflow_scripts.models.trained import activations_of
from workflow_scripts.planning.configuration import FULL, WorkflowSettings
from workflow_scripts.refinement.prediction import predictions
from workflow_scripts.refinement.random_walk import BoundaryWalk
from workflow_scripts.storage.activation_maps import ActivationMaps
from workflow_scripts.training.checkpoint import Checkpoint
from workflow_scripts.training.distributed import World, loader_workers
from workflow_scripts.training.inference_pipeline import (
    Kind,
    bytes_of,
    image_reader,
    in_batches,
    kind_of,
    written_behind,
)
from workflow_scripts.training.loop import Run, Trainer, total_steps, train
from workflow_scripts.training.precision import autocast, choose_dtype
from workflow_scripts.training.training_images import TrainingImages

WARM_UP = 2
# Images of the splits, as configurations name them.
IMAGES = {
    "VOC 2012": {"train": 1464, "train_aug": 9118, "val": 1449},
    "COCO 2014": {"train": 82081, "val": 40137},
}


@dataclass(frozen=True)
class Speed:
    """A stage on a device.

    Attributes:
        stage: Its name.
        images_per_second: Of the whole stage: files are read, results made ready to be stored.
        waited: Share of the time in which the device had nothing to do.
        bare: Share of the speed that the network alone reaches, for trainings.
        peak_bytes: Most memory, of the device; on a CPU of the process.
    """

    stage: str
    images_per_second: float
    waited: float
    bare: float | None
    peak_bytes: int

    def entry(self) -> dict[str, Any]:
        """For the report."""
        return asdict(self)


class Busy:
    """Adds up the time that the device is given something to do."""

    def __init__(self, together: Callable[[Any], Any]) -> None:
        self._together = together
        self.seconds = 0.0

    def __call__(self, some: Any) -> Any:
        """Compute a batch; its results are on the host once it returns."""
        start = time.perf_counter()
        found = self._together(some)
        self.seconds += time.perf_counter() - start
        return found


def measured(stage: str, material: Material, run: Callable[[], tuple[int, float]]) -> Speed:
    """Measure a stage; `run` returns how many images it saw, and for how many seconds the device was busy."""
    if material.device.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(material.device)
    start = time.perf_counter()
    images, busy = run()
    seconds = time.perf_counter() - start
    on_gpu = material.device.type == "cuda"
    peak = torch.cuda.max_memory_allocated(material.device) if on_gpu else own_peak()
    return Speed(stage, images / seconds, max(0.0, 1 - busy / seconds), None, peak)


def speeds(material: Material) -> Iterator[Speed]:
    """Every stage that uses a GPU, after a warm-up."""
    for name in ("cam", "amn"):
        yield inference(material, name)
    yield propagation(material)
    yield segmentation(material)
    for name in LEARNERS:
        yield training(material, name)


def _records(given: Sequence[ImageRecord], number: int) -> list[ImageRecord]:
    """So many images, each with a name of its own."""
    return [replace(given[n % len(given)], id=f"image-{n}") for n in range(number)]


def _dtype(material: Material, settings: Any) -> torch.dtype:
    return choose_dtype("auto", settings.backbone.bfloat16_pays, material.device)


def _stored(maps: ActivationMaps) -> None:
    """What a writer does with activations before they are on the disk."""
    maps.stored()


def inference(material: Material, name: str) -> Speed:
    """Activations of a method, from files to what a shard stores."""
    learner = material.learner(name)
    network, device = on(learner.network, material.device), material.device
    infer = material.settings.inference(name)
    method = material.settings.entry(name)(learner.settings)
    dtype, threads = _dtype(material, learner.settings), os.cpu_count() or 1
    read_image = image_reader(device)

    with photographs(material.images, material.height, material.width) as shown:
        masks = {
            record.path: one.mask for record, one in zip(shown.records, shown.scenes, strict=True)
        }

        def read(record: ImageRecord) -> tuple[ImageRecord, LabelledImage]:
            labels = tuple(record.labels)
            return record, LabelledImage(
                read_image(record.path), labels, CLASSES, masks[record.path]
            )

        def together(images: Sequence[LabelledImage]) -> list[Any]:
            with autocast(dtype, device):
                return activations_of(method, network, images, infer, device)

        def run(images: int) -> tuple[int, float]:
            busy = Busy(together)
            scale = max(infer.scales)  # type: ignore[attr-defined]
            records = _records(shown.records, images)
            with written_behind(_stored) as write:
                for _, maps in activations(records, read, busy, scale, device, threads):
                    write(maps)
            return images, busy.seconds

        run(WARM_UP)
        return measured(f"infer {name}", material, lambda: run(material.repeated))


def propagation(material: Material) -> Speed:
    """Boundaries and the walk."""
    learner, device = material.learner("boundary"), material.device
    path = save(
        material.folder / "speed.safetensors", learner, "boundary", learner.settings.backbone
    )
    walk = BoundaryWalk(path, material.settings.boundary.propagate, device)
    walk.dtype = _dtype(material, learner.settings)
    read_image = image_reader(device)
    threads = os.cpu_count() or 1
    with photographs(material.images, material.height, material.width) as shown:
        starts = {
            record.path: one.cam_maps().strided()
            for record, one in zip(shown.records, shown.scenes, strict=True)
        }

        def read(record: ImageRecord) -> tuple[np.ndarray, np.ndarray]:
            return read_image(record.path), starts[record.path]

        def together(some: list[tuple[np.ndarray, np.ndarray]]) -> list[np.ndarray]:
            return walk.propagated([one for one, _ in some], [start for _, start in some])

        def kind(one: tuple[np.ndarray, np.ndarray]) -> Kind:
            return kind_of(one[0].shape, 1, device)

        def run(images: int) -> tuple[int, float]:
            busy = Busy(together)
            loaded = in_threads(read, _records(shown.records, images), threads, bytes_of)
            for _ in in_batches(loaded, busy, kind, lambda one: one[0].nbytes):
                pass
            return images, busy.seconds

        run(WARM_UP)
        return measured("propagate", material, lambda: run(material.repeated))


def segmentation(material: Material) -> Speed:
    """Predictions as the configuration asks for, but without the CRF, which no GPU has a part in."""
    learner, device = material.learner("segmentation"), material.device
    settings = material.settings.evaluate_segmentation.model_copy(update={"refine": False})
    network, dtype = on(learner.network, device), _dtype(material, learner.settings)
    threads = os.cpu_count() or 1
    read_image = image_reader(device)
    with photographs(material.images, material.height, material.width) as shown:

        def read(record: ImageRecord) -> tuple[str, np.ndarray]:
            return record.id, read_image(record.path)

        def run(images: int) -> tuple[int, float]:
            loaded = in_threads(read, _records(shown.records, images), threads, bytes_of)
            waited = 0.0

            def ready() -> Iterator[tuple[str, np.ndarray]]:
                nonlocal waited
                while True:
                    start = time.perf_counter()
                    one = next(loaded, None)
                    waited += time.perf_counter() - start
                    if one is None:
                        return
                    yield one

            start = time.perf_counter()
            for _ in predictions(network, ready(), settings, device, dtype, threads, CLASSES):
                pass
            return images, time.perf_counter() - start - waited

        run(WARM_UP)
        return measured("evaluate segmentation", material, lambda: run(material.repeated))


def training(material: Material, name: str) -> Speed:
    """An epoch of a training after a first one, and steps of the network alone on a batch that stays."""
    learner, device = material.learner(name), material.device
    given = learner.settings.training
    size = given.batch_size
    settings = given.model_copy(update={"epochs": 2, "max_steps": None, "precision": "auto"})
    world = World(0, 1, device)
    workers = loader_workers(os.cpu_count() or 1, device) if device.type == "cuda" else 0
    checkpoint = Checkpoint(material.folder / f"speed-{name}", "")
    run = Run(checkpoint, 0, world, workers, 1e9, f"train {name}")
    backbone: Any = learner.network.backbone
    with photographs(material.images, material.height, material.width) as shown:
        masks = {
            record.path: one.mask for record, one in zip(shown.records, shown.scenes, strict=True)
        }
        images = TrainingImages(
            _records(shown.records, size * material.steps),
            CLASSES,
            settings.augmentation,
            (backbone.mean, backbone.std),
            0,
            None if name == "cam" else lambda record: masks[record.path],
        )
        pays = learner.settings.backbone.bfloat16_pays

        def whole() -> tuple[int, float]:
            rows.extend(train(learner.network, learner.task, images, settings, pays, run).rows)
            return 0, 0.0

        rows: list[dict[str, float]] = []
        speed = measured(f"train {name}", material, whole)
    trainer = Trainer(
        learner.network, learner.task, settings, _dtype(material, learner.settings), run
    )
    batch = material.batch(size, settings.augmentation.crop, backbone, device)
    alone = _images_per_second(trainer, batch, material.steps)
    found = rows[-1]["images_per_second"]
    return replace(speed, images_per_second=found, waited=rows[-1]["waiting"], bare=found / alone)


def _images_per_second(trainer: Trainer, batch: dict[str, Any], steps: int) -> float:
    """Speed of steps on one batch; the loss of the last is looked at."""
    float(trainer.step(batch))
    start = time.perf_counter()
    for _ in range(steps):
        loss = trainer.step(batch)
    float(loss)
    return steps * len(batch["image"]) / (time.perf_counter() - start)


def _seen(settings: Any, images: int) -> int:
    """Images that a training sees, each as often as it comes."""
    return total_steps(settings.training, images) * int(settings.training.batch_size)


def hours(settings: WorkflowSettings, images: dict[str, int], measured: Sequence[Speed]) -> float:
    """Hours of one GPU for a trial of a configuration; stages without a GPU are not in it.

    Args:
        settings: The configuration.
        images: Images of its splits.
        measured: Speeds of all stages.
    """
    speed = {one.stage: one.images_per_second for one in measured}
    splits = settings.splits

    def number(*names: str) -> int:
        return sum(images[name] for name in dict.fromkeys(names))

    learnt, shown = number(*splits.training), number(*splits.training, *splits.activations)
    seconds = 0.0
    for method in settings.methods:
        if method == FULL:
            continue
        seconds += _seen(settings.training(method), learnt) / speed[f"train {method}"]
        seconds += shown / speed[f"infer {method}"]
        if settings.boundary.enabled:
            seconds += _seen(settings.boundary.train, learnt) / speed["train boundary"]
            seconds += shown / speed["propagate"]
        seconds += _seen(settings.train_segmentation, learnt) / speed["train segmentation"]
        seconds += number(*splits.segmentation) / speed["evaluate segmentation"]
    return seconds / 3600
