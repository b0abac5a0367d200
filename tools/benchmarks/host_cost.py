"""Processor time that an image takes outside the network, by stage.

The reference is what the workflow did before images travelled as bytes: it decodes, resizes to all scales,
normalises, mirrors and arranges them on the host, image by image. Ours is the stage's own code with a
stand-in for the network, which gives results made beforehand: a GPU makes the views. Files are read and
written by both.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import default_collate

from tools.benchmarks.comparison import Comparison
from tools.benchmarks.scenes import SCALES, Scene, scenes
from workflow_scripts.datasets.images import read_image
from workflow_scripts.datasets.index import ImageRecord
from workflow_scripts.datasets.parallel import in_threads
from workflow_scripts.datasets.transforms import augment, normalise, rescale_to
from workflow_scripts.doors.method import LabelledImage
from workflow_scripts.infer import activations
from workflow_scripts.models.feature_maps import IMAGENET_MEAN, IMAGENET_STD
from workflow_scripts.settings.training import AugmentationSettings
from workflow_scripts.storage.activation_maps import AmnMaps, CamMaps
from workflow_scripts.storage.activations import ActivationReader, ActivationWriter
from workflow_scripts.storage.masks import MaskWriter
from workflow_scripts.storage.shard_files import strided_size
from workflow_scripts.training.inference_pipeline import (
    bytes_of,
    in_batches,
    kind_of,
    written_behind,
)
from workflow_scripts.training.randomness import AUGMENTATION, generator
from workflow_scripts.training.training_images import TrainingImages

CPU = torch.device("cpu")
QUALITY = 92
CLASSES = 20
BATCH = 16
THREADS = 2
STAGES = ("infer_cam", "infer_amn", "propagate", "evaluate_segmentation", "training_sample")


class Photographs(NamedTuple):
    """Scenes as JPEG files, rows of an index, and the folder for what is written."""

    folder: Path
    scenes: Sequence[Scene]
    records: list[ImageRecord]


@contextmanager
def photographs(images: int, height: int, width: int) -> Iterator[Photographs]:
    """Scenes in a temporary folder."""
    chosen = scenes(images, height, width)
    with TemporaryDirectory() as name:
        records = []
        for scene in chosen:
            path = Path(name) / f"{scene.id}.jpg"
            Image.fromarray(scene.image).save(path, quality=QUALITY)
            size = scene.width, scene.height
            records.append(ImageRecord(scene.id, path, *size, "train", scene.labels, None))
        yield Photographs(Path(name), chosen, records)


def views_on_the_host(image: np.ndarray, scales: Sequence[float], flip: bool) -> list[Tensor]:
    """Normalised views of an image at all scales, made and arranged by the host."""
    views = []
    for scale in scales:
        resized = rescale_to(image, *(round(side * scale) for side in image.shape[:2]))
        view = torch.from_numpy(normalise(resized, IMAGENET_MEAN, IMAGENET_STD))
        batch = torch.stack([view, view.flip(-1)]) if flip else view[None]
        views.append(batch.contiguous(memory_format=torch.channels_last))
    return views


def amn_maps(scene: Scene) -> AmnMaps:
    """Logits as a trained AMN gives them, of some absent classes too."""
    rng = np.random.default_rng(0)
    channels = 2 + len(scene.labels)
    size = strided_size(scene.height, scene.width)
    logits = tuple(
        rng.normal(size=(channels, *one.shape[1:])).astype(np.float32)
        for one in scene.cam_maps().maps
    )
    full = rng.random((1, scene.height, scene.width), np.float32)
    return AmnMaps(
        len(scene.labels), logits, full, rng.random((1, *size), np.float32), scene.mask > 0
    )


def inference(
    shown: Photographs, maps: Callable[[Scene], CamMaps | AmnMaps]
) -> tuple[Callable[[], None], Callable[[], None]]:
    """A shard of activations: reference and ours."""
    made = {scene.id: maps(scene) for scene in shown.scenes}
    kind = type(next(iter(made.values())))
    output = shown.folder / "activations.safetensors"

    def reference() -> None:
        with ActivationWriter(output, shown.records, kind) as writer:
            for record in shown.records:
                views_on_the_host(read_image(record.path), SCALES, flip=True)
                writer.write(record.id, made[record.id])

    def read(record: ImageRecord) -> tuple[ImageRecord, LabelledImage]:
        image = read_image(record.path)
        return record, LabelledImage(image, tuple(record.labels), CLASSES)

    def ours() -> None:
        given = iter(shown.records)

        def network(images: Sequence[LabelledImage]) -> list[CamMaps | AmnMaps]:
            return [made[next(given).id] for _ in images]

        with (
            ActivationWriter(output, shown.records, kind) as writer,
            written_behind(writer.write) as write,
        ):
            found = activations(shown.records, read, network, max(SCALES), CPU, THREADS)
            for record, of_one in found:
                write(record.id, of_one)

    return reference, ours


def propagation(shown: Photographs) -> tuple[Callable[[], None], Callable[[], None]]:
    """A shard of propagated activations."""
    source, output = shown.folder / "cam.safetensors", shown.folder / "propagated.safetensors"
    with ActivationWriter(source, shown.records, CamMaps) as writer:
        for scene in shown.scenes:
            writer.write(scene.id, scene.cam_maps())

    def ours(views: bool = False) -> None:
        with ActivationReader(source) as reader, ActivationWriter(output, shown.records) as writer:

            def read(record: ImageRecord) -> tuple[str, np.ndarray, np.ndarray]:
                strided = reader.read_strided(record.id, record.height, record.width)
                return record.id, read_image(record.path), strided

            if views:
                for record in shown.records:
                    name, image, strided = read(record)
                    np.stack([normalise(image, IMAGENET_MEAN, IMAGENET_STD)])
                    writer.write(name, strided)
                return
            with written_behind(writer.write) as write:
                for name, _, strided in _computed(
                    in_threads(read, shown.records, THREADS, bytes_of)
                ):
                    write(name, strided)

    return partial(ours, views=True), ours


def segmentation(shown: Photographs) -> tuple[Callable[[], None], Callable[[], None]]:
    """A shard of predictions at one scale, without CRF."""
    output = shown.folder / "predictions.zip"
    masks = {scene.id: scene.mask for scene in shown.scenes}

    def reference() -> None:
        with MaskWriter(output) as writer:
            for record in shown.records:
                views_on_the_host(read_image(record.path), (1.0,), flip=False)
                writer.write(record.id, masks[record.id])

    def read(record: ImageRecord) -> tuple[str, np.ndarray]:
        return record.id, read_image(record.path)

    def ours() -> None:
        with MaskWriter(output) as writer, written_behind(writer.write) as write:
            for name, _ in _computed(in_threads(read, shown.records, THREADS, bytes_of)):
                write(name, masks[name])

    return reference, ours


def _computed(loaded: Iterator[Any]) -> Iterator[Any]:
    """What a network that gives back what it is given makes of images."""
    return in_batches(
        loaded,
        lambda some: some,
        lambda one: kind_of(one[1].shape, 1, CPU),
        lambda one: one[1].nbytes,
    )


def samples(shown: Photographs, crop: int) -> tuple[Callable[[], None], Callable[[], None]]:
    """Batches of training images with seeds."""
    settings = AugmentationSettings(resize="scale", resize_range=(0.5, 1.5), crop=crop)
    masks = {scene.id: scene.mask for scene in shown.scenes}
    mean_std = IMAGENET_MEAN, IMAGENET_STD
    images = TrainingImages(
        shown.records, CLASSES, settings, mean_std, 0, lambda record: masks[record.id]
    )
    numbers = range(len(shown.records))

    def reference() -> None:
        elements = []
        for number in numbers:
            record = shown.records[number]
            rng = generator(0, AUGMENTATION, 0, number)
            found = augment(read_image(record.path), masks[record.id], settings, rng)
            top, bottom, left, right = found.place
            image = np.zeros((3, crop, crop), np.float32)
            inside = slice(top, bottom), slice(left, right)
            image[(slice(None), *inside)] = normalise(found.pixels[inside], *mean_std)
            elements.append({"image": image, "mask": found.mask})
        default_collate(elements)["image"].contiguous(memory_format=torch.channels_last)

    def ours() -> None:
        default_collate([images[0, number] for number in numbers])

    return reference, ours


def processor_seconds(work: Callable[[], None]) -> float:
    """Seconds of processor time, of all threads."""
    start = time.process_time()
    work()
    return time.process_time() - start


def measure(
    rounds: int = 3,
    *,
    stage: str,
    images: int = BATCH,
    height: int = 375,
    width: int = 500,
    crop: int = 512,
) -> Comparison:
    """Compare a stage's processor time of an image; torch has one thread, so that none spins."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with photographs(images, height, width) as shown:
            if stage == "training_sample":
                reference, ours = samples(shown, crop)
            elif stage == "propagate":
                reference, ours = propagation(shown)
            elif stage == "evaluate_segmentation":
                reference, ours = segmentation(shown)
            else:
                maps = Scene.cam_maps if stage == "infer_cam" else amn_maps
                reference, ours = inference(shown, maps)
            reference(), ours()
            pairs = [
                (processor_seconds(reference) / images, processor_seconds(ours) / images)
                for _ in range(rounds)
            ]
    finally:
        torch.set_num_threads(threads)
    seen = f"crop {crop}" if stage == "training_sample" else f"{width}×{height}"
    scales = f", {len(SCALES)} scales, mirror images" if stage.startswith("infer") else ""
    return Comparison(
        pairs,
        "seconds an image",
        note=f"processor time outside the network, {seen}{scales}; reference: views made on the host, "
        "ours: a GPU makes them",
    )
