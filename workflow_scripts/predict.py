"""Label any images with a trained segmentation network.

Writes below the output folder: `masks/`, indexed PNG in VOC's palette, 0 background and i the i-th
class; `overlays/`, the classes laid over the image, to look at; and `areas.csv` with the pixels of
each class in each image. Images in sub-folders keep their place. An image that cannot be read is
reported and left out; the command then ends with exit code 2. A second run replaces what the first wrote,
and removes what belongs to images that are gone.
"""

import csv
import io
import logging
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image
from pydantic import Field

from workflow_scripts.console.progress import progress
from workflow_scripts.console.stage import PluggedFiles, run_stage
from workflow_scripts.datasets.files import UNDECODABLE, file_path, images_below, unique_names
from workflow_scripts.datasets.result_folder import ResultFolder
from workflow_scripts.refinement.prediction import load_segmentation, predictions
from workflow_scripts.settings.evaluation import EvaluateSegmentationSettings
from workflow_scripts.storage.atomic import atomic_path
from workflow_scripts.storage.masks import encode_mask, voc_palette
from workflow_scripts.storage.networks import read_figures, weights_of
from workflow_scripts.training.distributed import choose_device
from workflow_scripts.training.inference_pipeline import ReadableImages, written_behind
from workflow_scripts.training.precision import inference_dtype

logger = logging.getLogger(__name__)

AREA_COLUMNS = ("image", "class", "number", "pixels", "share")
OPACITY = 0.5
ROWS_AT_ONCE = 256
TABLE = Path("areas.csv")


class Files(PluggedFiles):
    """Inputs and outputs."""

    model: Path = Field(description="folder of a trained segmentation network")
    images: Path = Field(description="folder of images, searched with its sub-folders")
    out: Path = Field(description="folder to write masks, overlays and areas.csv to")
    overlays: bool = Field(True, description="write overlays too")
    device: str = Field("auto", description="auto, cpu or cuda")


def overlay(image: np.ndarray, mask: np.ndarray) -> bytes:
    """The classes in their colours over the image uint8 [H, W, 3], as a JPEG file."""
    blended = image.copy()
    for start in range(0, len(image), ROWS_AT_ONCE):
        rows = slice(start, start + ROWS_AT_ONCE)
        colours = voc_palette()[mask[rows]].astype(np.float32)
        mixed = ((1 - OPACITY) * image[rows] + OPACITY * colours).round().astype(np.uint8)
        blended[rows] = np.where(mask[rows, :, None] > 0, mixed, image[rows])
    buffer = io.BytesIO()
    Image.fromarray(blended).save(buffer, format="JPEG", quality=90)
    return buffer.getvalue()


def areas(name: str, mask: np.ndarray, classes: Sequence[str]) -> list[dict[str, object]]:
    """One row a class of the image, background included: pixels, and share of the image."""
    counts = np.bincount(mask.ravel(), minlength=len(classes) + 1)
    return [
        {
            "image": name,
            "class": ("background", *classes)[number],
            "number": int(number),
            "pixels": int(counts[number]),
            "share": round(float(counts[number] / mask.size), 6),
        }
        for number in np.flatnonzero(counts)
    ]


def _write(path: Path, data: bytes) -> None:
    with atomic_path(path) as temporary:
        temporary.write_bytes(data)


def outputs_of(names: Sequence[str], overlays: bool) -> dict[str, tuple[Path, ...]]:
    """Return the files of each image, relative to the output: its mask, and its overlay if wanted."""
    outputs: dict[str, tuple[Path, ...]] = {}
    for name, own in zip(names, unique_names(names), strict=True):
        mask, laid_over = file_path(f"masks/{own}.png"), file_path(f"overlays/{own}.jpg")
        outputs[name] = (mask, laid_over) if overlays else (mask,)
    return outputs


def describe(weights: Path, classes: Sequence[str]) -> None:
    """Say which model labels the images, and what it reached."""
    shown = ", ".join(classes[:10]) + (" …" if len(classes) > 10 else "")
    logger.info("%s: %d classes: %s", weights, len(classes), shown)
    for split, figures in ((read_figures(weights) or {}).get("splits") or {}).items():
        logger.info("its mIoU on %s: %.1f", split, figures["miou"])


def work(files: Files, settings: EvaluateSegmentationSettings) -> None:
    """Label the images."""
    weights = weights_of(files.model)
    folder = images_below(files.images, out=files.out)
    device = choose_device(files.device)
    network, description = load_segmentation(weights, device)
    classes = description["classes"]
    describe(weights, classes)
    dtype = inference_dtype(description, device)
    outputs = outputs_of(list(folder.files), files.overlays)
    results = ResultFolder(
        files.out, "predict", [TABLE, *(path for pair in outputs.values() for path in pair)]
    )
    unnamed = folder.left_out.get(UNDECODABLE, ())
    images = ReadableImages(folder.files, device, files.threads, unnamed)
    with (
        atomic_path(results.path(TABLE)) as temporary,
        temporary.open("w", newline="", encoding="utf-8") as stream,
    ):
        writer = csv.DictWriter(stream, AREA_COLUMNS, lineterminator="\n")
        writer.writeheader()

        def write(name: str, image: np.ndarray, mask: np.ndarray) -> None:
            mask_path, *overlay_path = map(results.path, outputs[name])
            _write(mask_path, encode_mask(mask))
            for target in overlay_path:
                _write(target, overlay(image, mask))
            writer.writerows(areas(name, mask, classes))

        labelled = predictions(
            network, images, settings, device, dtype, files.threads, len(classes)
        )
        with written_behind(write) as put:
            for one in progress(labelled, total=len(folder.files), description="predict"):
                put(*one)
    results.finish()
    images.check("mask", files.out)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit code."""
    return run_stage("predict", __doc__, Files, EvaluateSegmentationSettings, work, argv)


if __name__ == "__main__":
    sys.exit(main())
