"""Regions from elsewhere: their files, and the published merge on cases made by hand."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as rle

from workflow_scripts.datasets.index import ImageRecord
from workflow_scripts.errors import InputError
from workflow_scripts.refinement.region_masks import merge_regions, read_regions
from workflow_scripts.settings.refinement import RegionSettings

SHARES = RegionSettings()
RECORD = ImageRecord("a/b", Path("b.jpg"), 10, 6, "train", (1, 2), None)


def region(rows: slice, columns: slice) -> np.ndarray:
    found = np.zeros((6, 10), bool)
    found[rows, columns] = True
    return found


def mask_of(*parts: tuple[int, slice, slice]) -> np.ndarray:
    mask = np.zeros((6, 10), np.uint8)
    for label, rows, columns in parts:
        mask[rows, columns] = label
    return mask


ALL = slice(None)


def test_a_region_more_than_half_of_a_class_joins_it_whole() -> None:
    mask = mask_of((1, ALL, slice(0, 4)))
    assert merge_regions(mask, [region(ALL, slice(0, 7))], SHARES).tolist() == (
        mask_of((1, ALL, slice(0, 7))).tolist()
    )


def test_exactly_half_is_not_enough_and_what_no_region_covers_stays() -> None:
    """Half of a region, and 3 of 5 columns of the class: it joins nothing, and clears what it covers."""
    mask = mask_of((1, ALL, slice(0, 5)))
    found = merge_regions(mask, [region(ALL, slice(2, 8))], SHARES)
    assert found.tolist() == mask_of((1, ALL, slice(0, 2))).tolist()


def test_a_region_that_covers_the_class_joins_though_most_of_it_is_background() -> None:
    mask = mask_of((1, slice(0, 2), slice(0, 2)))
    assert (merge_regions(mask, [region(ALL, ALL)], SHARES) == 1).all()
    stricter = RegionSettings(covered=1.0)
    left = merge_regions(mask, [region(slice(0, 6), slice(1, 10))], stricter)
    assert left.tolist() == mask_of((1, slice(0, 2), slice(0, 1))).tolist()


def test_the_smaller_region_lies_on_top() -> None:
    mask = mask_of((1, ALL, slice(0, 8)), (2, slice(0, 2), slice(0, 2)))
    regions = [region(slice(0, 2), slice(0, 2)), region(ALL, slice(0, 9))]
    expected = mask_of((1, ALL, slice(0, 9)), (2, slice(0, 2), slice(0, 2)))
    for order in (regions, regions[::-1]):
        assert merge_regions(mask, order, SHARES).tolist() == expected.tolist()


def test_a_class_that_would_vanish_stays_and_ignored_pixels_too() -> None:
    mask = mask_of((1, slice(0, 1), slice(0, 10)), (255, slice(5, 6), ALL))
    regions = [region(ALL, slice(0, 5)), region(ALL, slice(5, 10))]
    assert merge_regions(mask, regions, SHARES).tolist() == mask.tolist()
    nothing = np.zeros((6, 10), np.uint8)
    assert merge_regions(nothing, regions, SHARES).tolist() == nothing.tolist()


def test_pngs_and_run_lengths_are_the_same_regions(tmp_path: Path) -> None:
    regions = [region(slice(1, 4), slice(2, 9)), region(slice(0, 6), slice(0, 1))]
    images = tmp_path / "images/a/b"
    images.mkdir(parents=True)
    for number, one in enumerate(regions):
        Image.fromarray(255 * one.astype(np.uint8)).save(images / f"{number}.png")
    (images / "metadata.csv").write_text("id,area\n")
    listed = []
    for one in regions:
        encoded = rle.encode(np.asfortranarray(one.astype(np.uint8)))
        counts = encoded["counts"].decode()
        listed.append({"segmentation": {"size": [6, 10], "counts": counts}, "area": int(one.sum())})
    runs = {"size": [6, 10], "counts": [6, 54]}
    (tmp_path / "json/a").mkdir(parents=True)
    file = tmp_path / "json/a/b.json"
    for content in (listed, {"image": {}, "annotations": listed}):
        file.write_text(json.dumps(content))
        for found in (
            read_regions(tmp_path / "images", RECORD), read_regions(tmp_path / "json", RECORD),
        ):  # fmt: skip
            assert [one.tolist() for one in found] == [one.tolist() for one in regions]
    file.write_text(json.dumps([{"segmentation": runs}]))
    [one] = read_regions(tmp_path / "json", RECORD)
    assert one.tolist() == region(ALL, slice(1, 10)).tolist()


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("[{", "not readable as JSON"),
        ("{}", "expected a list of regions"),
        ('[{"area": 3}]', "region 0 .* is malformed"),
        (
            '[{"segmentation": {"size": [10, 6], "counts": [60]}}]',
            r"size \[10, 6\], image \[6, 10\]",
        ),
        ('[{"segmentation": {"size": [6, 10], "counts": [59]}}]', "59 pixels"),
        ('[{"segmentation": {"size": [6, 10], "counts": "\\u00e9"}}]', "no character"),
    ],
)
def test_malformed_files_are_named(tmp_path: Path, content: str, said: str) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a/b.json").write_text(content)
    with pytest.raises(InputError, match=rf"b\.json: .*{said}"):
        read_regions(tmp_path, RECORD)


@pytest.mark.parametrize(
    ("image", "said"),
    [
        (Image.new("L", (10, 5)), "the region has 10×5 pixels"),
        (Image.new("RGB", (10, 6)), "mode RGB"),
        (Image.fromarray(np.arange(60, dtype=np.uint8).reshape(6, 10)), "60 values"),
    ],
)
def test_malformed_images_are_named(tmp_path: Path, image: Image.Image, said: str) -> None:
    (tmp_path / "a/b").mkdir(parents=True)
    image.save(tmp_path / "a/b/7.png")
    with pytest.raises(InputError, match=f"7.png: .*{said}"):
        read_regions(tmp_path, RECORD)


def test_an_image_without_regions_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"neither a folder a/b/ nor a file a/b\.json"):
        read_regions(tmp_path, RECORD)
