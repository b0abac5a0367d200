"""Reduce the photographs of a folder to a longest side, and their masks with them, into a new folder.

`--root` holds the folders `images` and `masks` and the table `labels.csv`, as a dataset of kind `folder`
does; masks and table may be missing, and where there is no folder `images`, `root` itself holds the
photographs. The new folder has the same names in it. Masks are reduced without mixing values and written
as indexed PNG, so that class numbers stay what they are; photographs that are small enough are copied.
"""

import io
import logging
import shutil
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image
from pydantic import Field

from workflow_scripts.console.progress import progress
from workflow_scripts.console.stage import StageFiles, run_stage
from workflow_scripts.datasets.files import MASK_SUFFIXES, Folder, file_path, images_below
from workflow_scripts.datasets.images import check_mask, read_image, read_mask
from workflow_scripts.datasets.index import MAX_CLASSES
from workflow_scripts.datasets.label_map import NAME as LABEL_MAP
from workflow_scripts.datasets.label_map import find_label_map, masks_in
from workflow_scripts.datasets.parallel import ordered_map
from workflow_scripts.datasets.result_folder import ResultFolder
from workflow_scripts.datasets.table import find_masks
from workflow_scripts.errors import InputError
from workflow_scripts.settings.base import Settings
from workflow_scripts.storage.atomic import atomic_path
from workflow_scripts.storage.masks import encode_mask

logger = logging.getLogger(__name__)

QUALITY = 95
_SHOWN = 5


class Files(StageFiles):
    """Inputs and outputs."""

    root: Path = Field(description="folder of the dataset")
    output: Path = Field(description="folder to write to")


class ResizeSettings(Settings):
    """How far photographs are reduced, and what the parts of the dataset are called."""

    longest_side: int = Field(
        640, ge=16, description="pixels of the longer side that no photograph may exceed"
    )
    images: str = Field(
        "images", min_length=1, description="folder of the photographs, inside root"
    )
    masks: str = Field("masks", min_length=1, description="folder of their masks, inside root")
    labels: str = Field(
        "labels.csv", min_length=1, description="table of their labels, inside root"
    )


def new_size(width: int, height: int, longest: int) -> tuple[int, int]:
    """Return width and height after the longer side is reduced to `longest`, if it exceeds that."""
    scale = min(1.0, longest / max(width, height))
    return max(1, round(width * scale)), max(1, round(height * scale))


def resize(task: tuple[Path, Path | None, Path, Path | None], longest: int) -> str:
    """Reduce a photograph and its mask; returns what is wrong with them, "" if nothing is.

    Args:
        task: Photograph, mask if there is one, and where each is written.
        longest: See `new_size`.
    """
    source, mask_source, target, mask_target = task
    # Photographs that are too large to be read at once are what this is for.
    Image.MAX_IMAGE_PIXELS = None
    try:
        image = read_image(source)
        height, width = image.shape[:2]
        size = new_size(width, height, longest)
        mask = None if mask_source is None else read_mask(mask_source)
        if mask is not None and mask_source is not None:
            check_mask(mask, (width, height), MAX_CLASSES, mask_source, source)
    except InputError as error:
        return str(error)
    if mask is not None and mask_target is not None:
        small = Image.fromarray(mask).resize(size, Image.Resampling.NEAREST)
        _write(mask_target, encode_mask(np.asarray(small)))
    if size == (width, height):
        with atomic_path(target) as temporary:
            shutil.copyfile(source, temporary)
    else:
        buffer = io.BytesIO()
        reduced = Image.fromarray(image).resize(size, Image.Resampling.LANCZOS, reducing_gap=3)
        kind = Image.registered_extensions()[target.suffix.lower()]
        reduced.save(buffer, format=kind, quality=QUALITY)
        _write(target, buffer.getvalue())
    return ""


def _write(path: Path, data: bytes) -> None:
    with atomic_path(path) as temporary:
        temporary.write_bytes(data)


def work(files: Files, settings: ResizeSettings) -> None:
    """Reduce the dataset."""
    inside = files.root / settings.images
    source = inside if inside.is_dir() else files.root
    found = images_below(source, out=files.output)
    masks = masks_in(files.root / settings.masks)
    label_map = find_label_map(masks) if masks.is_dir() else None
    mask_files = Folder(masks, {})
    if masks.is_dir():
        mask_files = Folder.scan(masks, MASK_SUFFIXES)
        mask_files.tell()
    # Where the photographs lie beside the masks, masks are no photographs.
    apart = set(mask_files.files.values())
    names = [name for name, path in found.files.items() if path not in apart]
    of_image = find_masks(names, mask_files)
    table = files.root / settings.labels
    place = Path(settings.images) if source == inside else Path()
    tasks: list[tuple[Path, Path | None, Path, Path | None]] = []
    planned = [Path(settings.labels)] if table.is_file() else []
    planned += [Path(settings.masks, LABEL_MAP)] if label_map else []
    for name, mask in zip(names, of_image, strict=True):
        target, mask_target = place / file_path(name), None
        if mask is not None:
            mask_target = settings.masks / mask.relative_to(masks).with_suffix(".png")
        planned += [target, mask_target] if mask_target else [target]
        tasks.append((found.files[name], mask, target, mask_target))
    results = ResultFolder(files.output, "resize_dataset", planned)
    whole = [
        (image, mask, results.path(target), mask_target and results.path(mask_target))
        for image, mask, target, mask_target in tasks
    ]
    done = ordered_map(partial(resize, longest=settings.longest_side), whole, files.threads)
    wrong = list(filter(None, progress(done, total=len(whole), description="resize")))
    if table.is_file():
        with atomic_path(results.path(Path(settings.labels))) as temporary:
            shutil.copyfile(table, temporary)
    if label_map:
        # Its order is that of the numbers in the masks.
        with atomic_path(results.path(Path(settings.masks, LABEL_MAP))) as temporary:
            shutil.copyfile(label_map, temporary)
    if not table.is_file():
        logger.info("%s: no such table; photographs and masks alone are reduced", table)
    results.finish()
    logger.info(
        "%s: %d photographs, %d with a mask", files.output, len(whole), sum(map(bool, of_image))
    )
    if wrong:
        lines = "\n".join(f"  {line}" for line in wrong[:_SHOWN])
        more = f"\n  … and {len(wrong) - _SHOWN} more" if len(wrong) > _SHOWN else ""
        raise InputError(
            f"{len(wrong)} of {len(whole)} photographs are left out; mend or remove them:\n{lines}{more}"
        )


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit code."""
    return run_stage("resize_dataset", __doc__, Files, ResizeSettings, work, argv)


if __name__ == "__main__":
    sys.exit(main())
