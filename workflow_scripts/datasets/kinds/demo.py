"""The embedded demo dataset: scenes composed at run time of the photographs in `resources/demo/`.

A scene is a function of the seed, its split and its number alone, so the dataset is the same with any
number of processes, and a larger one begins with the images of a smaller one.
"""

import csv
from collections.abc import Iterator
from functools import cache, partial
from pathlib import Path
from typing import ClassVar, Literal, NamedTuple, Self

import numpy as np
from PIL import Image
from pydantic import Field, model_validator

from workflow_scripts.datasets.compositing import Materials, SceneSettings, compose_scene
from workflow_scripts.datasets.consistency import Described, write_dataset
from workflow_scripts.datasets.index import IndexRow
from workflow_scripts.datasets.parallel import ordered_map
from workflow_scripts.doors.dataset import DatasetSettings, Progress
from workflow_scripts.errors import InputError
from workflow_scripts.storage.masks import IGNORE, encode_mask

MAX_IMAGES = 100_000
RESOURCES = Path(__file__).resolve().parents[3] / "resources" / "demo"
SPLITS = ("train", "val")
FOLDER_IMAGES = 1000
_BACKGROUND = "background"
_JPEG_QUALITY = (70, 92)


class DemoDatasetSettings(SceneSettings, DatasetSettings):
    """Scenes composed at run time of the photographs in `resources/demo/`."""

    name: ClassVar[str] = "demo"

    kind: Literal["demo"] = Field("demo", description="Compose scenes of the embedded photographs.")
    train_images: int = Field(
        400, ge=1, le=MAX_IMAGES, description="Number of training scenes, from training cut-outs."
    )
    val_images: int = Field(
        120,
        ge=1,
        le=MAX_IMAGES,
        description="Number of validation scenes, from cut-outs that training never shows.",
    )
    seed: int = Field(0, ge=0, le=2**32 - 1, description="Seed of all random choices.")

    @model_validator(mode="after")
    def _not_too_many(self) -> Self:
        if self.train_images + self.val_images > MAX_IMAGES:
            raise ValueError(f"train_images and val_images must not exceed {MAX_IMAGES} together")
        return self

    def prepare(self, output: Path, processes: int, progress: Progress | None = None) -> None:
        """See `DatasetSettings`."""
        prepare(self, output, processes, progress)

    def splits(self) -> tuple[str, ...]:
        """See `DatasetSettings`."""
        return SPLITS


class _Asset(NamedTuple):
    path: Path
    name: str
    split: str


def prepare(
    settings: DemoDatasetSettings,
    output: Path,
    processes: int,
    progress: Progress | None = None,
) -> None:
    """Compose the dataset: output/images, output/masks, output/classes.csv, output/index.csv.

    Images lie in folders of FOLDER_IMAGES each. The index comes last, so that a folder with an index
    is complete. Memory does not grow with the number of images.

    Args:
        settings: Sizes, counts and seed.
        output: Folder to write to.
        processes: Number of worker processes; 1 composes in this one. Changes no result.
        progress: Called for each image.

    Raises:
        InputError: The embedded photographs are missing or incomplete.
    """
    write_dataset(output, class_names(), _scenes(settings, output, processes, progress))


@cache
def class_names() -> tuple[str, ...]:
    """Names of the classes, in the order in which the manifest first mentions them."""
    names = dict.fromkeys(asset.name for asset in _assets())
    return tuple(name for name in names if name != _BACKGROUND)


def compose(
    settings: DemoDatasetSettings, split: str, number: int
) -> tuple[np.ndarray, np.ndarray, int]:
    """Return image uint8[S, S, 3], mask uint8[S, S] and JPEG quality of one scene."""
    rng = np.random.default_rng([settings.seed, SPLITS.index(split), number])
    image, mask = compose_scene(_materials(split), settings, rng)
    return image, mask, int(rng.integers(_JPEG_QUALITY[0], _JPEG_QUALITY[1] + 1))


def _scenes(
    settings: DemoDatasetSettings, output: Path, processes: int, progress: Progress | None
) -> Iterator[Described]:
    """Write images and masks; yield their rows, training split first, in the order of their numbers."""
    counts = zip(SPLITS, (settings.train_images, settings.val_images), strict=True)
    scenes = ((split, number) for split, count in counts for number in range(count))
    write = partial(_write_scene, settings=settings, output=output)
    total = settings.train_images + settings.val_images
    for done, scene in enumerate(ordered_map(write, scenes, processes), start=1):
        yield scene
        if progress is not None:
            progress("compose scenes", done, total, "img")


def _write_scene(scene: tuple[str, int], settings: DemoDatasetSettings, output: Path) -> Described:
    split, number = scene
    image, mask, quality = compose(settings, split, number)
    image_id = f"{split}-{number:06d}"
    folder = f"{split}-{number // FOLDER_IMAGES:03d}"
    image_path = Path("images") / folder / f"{image_id}.jpg"
    mask_path = Path("masks") / folder / f"{image_id}.png"
    for path in (image_path, mask_path):
        (output / path).parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(image).save(output / image_path, quality=quality)
    (output / mask_path).write_bytes(encode_mask(mask))
    labels = [class_names()[label - 1] for label in np.unique(mask) if label not in (0, IGNORE)]
    size = settings.image_size
    row = IndexRow(image_id, str(image_path), size, size, split, labels, str(mask_path))
    return Described(row, tuple(labels))


@cache
def _materials(split: str) -> Materials:
    """Decode the photographs of a split, once a process."""
    cutouts: dict[int, list[Image.Image]] = {
        number: [] for number in range(1, len(class_names()) + 1)
    }
    backgrounds = []
    for asset in _assets():
        if asset.split != split:
            continue
        if asset.name == _BACKGROUND:
            backgrounds.append(_open(asset.path, "RGB"))
        else:
            cutouts[class_names().index(asset.name) + 1].append(_open(asset.path, "RGBA"))
    if not backgrounds or not all(cutouts.values()):
        raise InputError(
            f"{RESOURCES / 'manifest.csv'}: every class and the background need a photograph in"
            f" split {split!r}; restore the file from the repository"
        )
    return Materials(cutouts, backgrounds)


def _open(path: Path, mode: str) -> Image.Image:
    try:
        with Image.open(path) as image:
            return image.convert(mode)
    except OSError as error:
        raise InputError(
            f"{path}: not readable ({error}); restore it from the repository"
        ) from error


@cache
def _assets() -> tuple[_Asset, ...]:
    manifest = RESOURCES / "manifest.csv"
    try:
        with manifest.open(newline="", encoding="utf-8") as stream:
            return tuple(
                _Asset(RESOURCES / row["file"], row["class"], row["split"])
                for row in csv.DictReader(stream)
            )
    except OSError as error:
        raise InputError(
            f"{manifest}: not readable ({error.strerror}); restore it from the repository"
        ) from error
