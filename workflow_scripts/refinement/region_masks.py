"""Regions of an image from any segmenter, merged into a mask of classes.

The merge is that of Chen et al., "Segment Anything Model (SAM) Enhanced Pseudo Labels for Weakly Supervised
Semantic Segmentation", 2023. Of an image's regions are read `{folder}/{id}/…`, binary masks (PNG and other
images without loss, any value but 0 is inside), or `{folder}/{id}.json`: a list of objects with a
`segmentation` in COCO's run lengths, `{"size": [height, width], "counts": …}`, or an object with such a list
as `annotations`, as SAM's automatic generator and its published masks have it.
"""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from workflow_scripts.datasets.files import MASK_SUFFIXES
from workflow_scripts.datasets.images import opened_image
from workflow_scripts.datasets.index import ImageRecord
from workflow_scripts.datasets.run_lengths import region_of, runs_of
from workflow_scripts.errors import InputError
from workflow_scripts.settings.refinement import RegionSettings
from workflow_scripts.storage.masks import IGNORE


def read_regions(folder: Path, record: ImageRecord) -> list[np.ndarray]:
    """Read the regions of an image, bool [H, W] each; they may overlap, and there may be none.

    Raises:
        InputError: There is neither a folder nor a file of the image, or a region is malformed or of another
            size; names the file, and in a JSON file the region's number.
    """
    images, listed = folder / record.id, folder / f"{record.id}.json"
    if images.is_dir():
        paths = sorted(path for path in images.iterdir() if path.suffix.lower() in MASK_SUFFIXES)
        return [_binary(path, record) for path in paths]
    if listed.is_file():
        return list(_listed(listed, record))
    raise InputError(
        f"{folder}: neither a folder {record.id}/ nor a file {record.id}.json with the regions of image "
        f"{record.path}. Each image needs one, named by its `id` in the index; an empty folder says that it "
        "has no region"
    )


def _binary(path: Path, record: ImageRecord) -> np.ndarray:
    with opened_image(path) as image:
        if image.mode not in ("1", "L", "P"):
            raise InputError(
                f"{path}: an image of mode {image.mode}; expected a binary mask, black and white or with "
                "two values, 0 outside of the region. Save it as such"
            )
        values = np.array(image)
    if values.shape != (record.height, record.width):
        raise InputError(
            f"{path}: the region has {values.shape[1]}×{values.shape[0]} pixels, its image {record.path} "
            f"{record.width}×{record.height}; make them equal"
        )
    inside = values != 0
    if values.dtype != bool and len(np.unique(values[inside])) > 1:
        raise InputError(
            f"{path}: holds {len(np.unique(values))} values; expected one region a file, 0 outside and one "
            "other value inside. Write each region into a file of its own"
        )
    return inside


def _listed(path: Path, record: ImageRecord) -> Iterator[np.ndarray]:
    try:
        content: Any = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: not readable as JSON ({error}); write it anew") from error
    regions = content.get("annotations") if isinstance(content, dict) else content
    if not isinstance(regions, list):
        raise InputError(
            f"{path}: expected a list of regions, or an object with a list `annotations`, each with a "
            "`segmentation` in run lengths"
        )
    size = [record.height, record.width]
    for number, region in enumerate(regions):
        try:
            segmentation = region["segmentation"]
            if list(segmentation["size"]) != size:
                raise ValueError(f"size {segmentation['size']}, image {size}")
            runs = runs_of(segmentation["counts"], record.height * record.width)
        except (TypeError, KeyError, ValueError) as error:
            raise InputError(
                f"{path}: region {number} (from 0) is malformed ({error!r}); expected `segmentation: {{size: "
                '[height, width], counts: …}` in COCO\'s run lengths (`output_mode="coco_rle"`)'
            ) from error
        yield region_of(runs, *size)


def merge_regions(
    mask: np.ndarray, regions: Sequence[np.ndarray], settings: RegionSettings
) -> np.ndarray:
    """Let the regions of an image decide where the classes of its mask end.

    A region joins a class when more than `inside` of it is of that class, or it covers at least `covered` of
    the class; of several such classes the one of which it holds most, of equals the first. A class is then
    what joined it, and what no region covers of its pixels. Where two regions of different classes overlap,
    the smaller lies on top (the published code lets the class of the higher number win), and a class that
    would vanish stays as it was.

    Args:
        mask: uint8 [H, W] of class numbers, 255 ignored, which no class and no region counts.
        regions: bool [H, W] each.
        settings: The two shares.

    Returns:
        uint8 [H, W].
    """
    areas = np.bincount(mask.ravel(), minlength=256)
    classes = [int(label) for label in np.flatnonzero(areas) if 0 < label < IGNORE]
    if not classes:
        return mask
    free = np.ones(mask.shape, bool)
    joined: list[tuple[int, int, np.ndarray]] = []
    for region in regions:
        held = np.bincount(mask[region], minlength=256)
        pixels = int(held.sum())
        free &= ~region
        fitting = [
            label
            for label in classes
            if held[label] > settings.inside * pixels
            or held[label] >= settings.covered * areas[label]
        ]
        if pixels and fitting:
            joined.append((pixels, max(fitting, key=lambda label: held[label]), region))
    result = np.where(free | (mask == IGNORE), mask, 0).astype(np.uint8)
    for _, label, region in sorted(joined, key=lambda one: -one[0]):
        result[region] = label
    for label in classes:
        if not (result == label).any():
            result[mask == label] = label
    return result
