"""COCO's and VOC's annotations as other programs write them: read, or named and refused."""

import json
import math
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools import mask as rle

from tests.miniatures import build_coco
from workflow_scripts.datasets.coco_annotations import (
    identifier,
    labels_of,
    read_again,
    read_annotations,
    render,
)
from workflow_scripts.datasets.index import read_index
from workflow_scripts.datasets.kinds.coco14 import Coco14DatasetSettings, prepare
from workflow_scripts.datasets.kinds.voc12 import labels_from_xml, read_list
from workflow_scripts.errors import InputError

# pycocotools' arrays are of NumPy 1's protocol.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

SQUARE = [[1.0, 1.0, 5.0, 1.0, 5.0, 5.0, 1.0, 5.0]]
NUMBERS: dict[int | str, int] = {1: 1, 5: 2}


def document() -> dict[str, Any]:
    return {
        "images": [{"id": 7, "file_name": "a.jpg", "width": 8, "height": 6}],
        "annotations": [
            {"id": 3, "image_id": 7, "category_id": 5, "iscrowd": 0, "segmentation": SQUARE}
        ],
        "categories": [{"id": 1, "name": "cat"}, {"id": 5, "name": "dog"}],
    }


def masks_of(folder: Path, content: Any) -> list[np.ndarray]:
    """Masks of all images of a file, as `prepare` makes them."""
    path = folder / "instances.json"
    text = content if isinstance(content, (str, bytes)) else json.dumps(content)
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    found = read_annotations(path)
    masks = []
    for image in found.images:
        things = [read_again(path, start, end) for start, end in image.spans]
        labels_of(things, found.numbers)
        masks.append(render(things, min(image.height, 99), min(image.width, 99), found.numbers))
    return masks


def ids(change: Callable[[int], Any]) -> dict[str, Any]:
    content = document()
    for kind in ("images", "annotations", "categories"):
        for entry in content[kind]:
            for key in ("id", "image_id", "category_id"):
                if key in entry:
                    entry[key] = change(entry[key])
    return content


@pytest.mark.parametrize("change", [float, str, lambda n: f"img_{n}", lambda n: 10**12 + n])
def test_ids_of_any_kind(tmp_path: Path, change: Callable[[int], Any]) -> None:
    expected = masks_of(tmp_path, document())
    np.testing.assert_array_equal(masks_of(tmp_path, ids(change)), expected)


def test_byte_order_marks_and_names_outside_ascii(tmp_path: Path) -> None:
    content = document()
    content["images"][0]["file_name"] = "猫é.jpg"
    expected = masks_of(tmp_path, document())
    for text in (
        "\ufeff" + json.dumps(content), json.dumps(content, ensure_ascii=False),
        json.dumps(content, indent=3),
    ):  # fmt: skip
        np.testing.assert_array_equal(masks_of(tmp_path, text), expected)
        assert read_annotations(tmp_path / "instances.json").images[0].name == "猫é.jpg"


def without(*path: Any) -> Callable[[dict[str, Any]], None]:
    def change(content: Any) -> None:
        for key in path[:-1]:
            content = content[key]
        del content[path[-1]]

    return change


def to(value: Any, *path: Any) -> Callable[[dict[str, Any]], None]:
    def change(content: Any) -> None:
        for key in path[:-1]:
            content = content[key]
        content[path[-1]] = value

    return change


IMAGE, THING, CATEGORY = ("images", 0), ("annotations", 0), ("categories", 0)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (without("annotations"), "no annotations in it"), (to([], "annotations"), "no annotations"),
        (without("images"), "no categories or no images"), (without("categories"), "no categories"),
        (without(*IMAGE, "height"), "no key `height`"), (to("8", *IMAGE, "width"), "`width` of a.jpg"),
        (to(0, *IMAGE, "width"), "`width` of a.jpg"), (to(7.5, *IMAGE, "id"), "7.5 is no id"),
        (to(math.nan, *IMAGE, "id"), "nan is no id"), (to(True, *IMAGE, "id"), "True is no id"),
        (to("x/a.jpg", *IMAGE, "file_name"), "not a plain name"),
        (to("x\\a.jpg", *IMAGE, "file_name"), "not a plain name"),
        (to(3, *IMAGE, "file_name"), "`file_name` is 3"),
        (without(*THING, "image_id"), "no key `image_id`"),
        (without(*THING, "category_id"), "no key `category_id`"),
        (to(8, *THING, "image_id"), "belongs to image 8"),
        (to(9, *THING, "category_id"), "category 9 is not listed"),
        (without(*THING, "segmentation"), "a box alone gives no mask"),
        (to(None, *THING, "segmentation"), "a box alone gives no mask"),
        (to([1, 1, 5, 1, 5, 5], *THING, "segmentation"), "a list of numbers in a list"),
        (to([[1, 1, 5, 1, 5, 5, 1]], *THING, "segmentation"), "7 coordinates"),
        (to([["1", "1", "5", "1", "5", "5"]], *THING, "segmentation"), "coordinate '1'"),
        (to([[math.nan] * 6], *THING, "segmentation"), "coordinate nan"),
        (to([[1e9] * 6], *THING, "segmentation"), "coordinate 1000000000.0"),
        (to([[math.inf] * 6], *THING, "segmentation"), "coordinate inf"),
        (to({"size": [6, 8], "counts": [4, 4]}, *THING, "segmentation"), "the runs have 8 pixels"),
        (to({"size": [6, 8], "counts": [1, -1, 48]}, *THING, "segmentation"), "no lengths of runs"),
        (to({"size": [8, 6], "counts": [48]}, *THING, "segmentation"), r"size \[8, 6\]"),
        (to({"counts": [48]}, *THING, "segmentation"), "size None"),
        (to({"size": [6, 8], "counts": "zz\1"}, *THING, "segmentation"), "no character of compressed"),
        (to({"size": [6, 8], "counts": "o"}, *THING, "segmentation"), "cut off"),
        (to([1], "images"), "is no object"), (to(["x"], "annotations"), "is no object"),
        (to("", *CATEGORY, "name"), "`name` is ''"), (to(5, *CATEGORY, "id"), "5 is listed twice"),
    ],
)  # fmt: skip
def test_odd_annotations_are_named(
    tmp_path: Path, change: Callable[[dict[str, Any]], None], message: str
) -> None:
    content = document()
    change(content)
    with pytest.raises(InputError, match=message):
        masks_of(tmp_path, content)


@pytest.mark.parametrize(
    "text", ["", "[]", "[{}]", '{"images": [', "null", '{"images": [{"id"', "\xff"]
)
def test_files_that_are_no_annotations(tmp_path: Path, text: str) -> None:
    with pytest.raises(InputError, match=r"instances\.json: not a complete JSON object"):
        masks_of(tmp_path, text.encode("latin-1"))


@settings(max_examples=500, deadline=None)
@given(st.lists(st.integers(0, 1), min_size=48, max_size=48), st.booleans())
def test_runs_are_those_of_pycocotools(pixels: list[int], compressed: bool) -> None:
    region = np.array(pixels, np.uint8).reshape(6, 8)
    encoded = rle.encode(np.asfortranarray(region))
    segmentation: Any = {"size": [6, 8], "counts": encoded["counts"].decode()}
    if not compressed:
        flat = region.ravel(order="F")
        edges = np.flatnonzero(np.diff(flat)) + 1
        runs = np.diff([0, *edges, 48]).tolist()
        segmentation["counts"] = [0, *runs] if flat[0] else runs
    thing = {"id": 1, "category_id": 5, "segmentation": segmentation}
    np.testing.assert_array_equal(render([thing], 6, 8, NUMBERS), 2 * region)


SCALARS = (
    st.none() | st.booleans() | st.integers(-9, 60) | st.text(max_size=4)
    | st.floats(-1e12, 1e12) | st.sampled_from([math.nan, math.inf, 1e300])
)  # fmt: skip
VALUES = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=6)
        | st.dictionaries(st.sampled_from(["size", "counts", "id"]), inner, max_size=3)
    ),
    max_leaves=8,
)
POLYGONS = st.lists(st.lists(st.floats(-20, 70), max_size=9), max_size=3)
RUNS = st.fixed_dictionaries(
    {
        "size": st.just([6, 8]),
        "counts": st.lists(st.integers(-2, 30), max_size=6) | st.text(max_size=9),
    }
)
PLACES = st.sampled_from(
    [("images",), ("annotations",), ("categories",), IMAGE, THING, CATEGORY]
    + [(*IMAGE, key) for key in ("id", "file_name", "width", "height")]
    + [(*THING, key) for key in ("id", "image_id", "category_id", "iscrowd")]
    + [(*CATEGORY, key) for key in ("id", "name")]
    + [(*THING, "segmentation")] * 8
)


@settings(max_examples=2000, deadline=None)
@given(PLACES, VALUES | POLYGONS | RUNS, st.booleans())
def test_any_annotation_is_drawn_or_refused(place: tuple[Any, ...], value: Any, drop: bool) -> None:
    content = document()
    (without(*place) if drop else to(value, *place))(content)
    with TemporaryDirectory() as folder:
        try:
            masks = masks_of(Path(folder), content)
        except InputError as error:
            assert str(error)
        else:
            for mask in masks:
                assert set(np.unique(mask)) <= {0, 1, 2, 255}


@settings(max_examples=300, deadline=None)
@given(st.integers(0, 10**15))
def test_an_id_is_the_same_however_it_is_written(number: int) -> None:
    assert identifier(number, "") == identifier(str(number), "") == number
    assert identifier(float(number), "") == number


def test_an_image_without_annotations_in_one_split_is_told_by_the_counts(tmp_path: Path) -> None:
    made = build_coco(tmp_path / "made")
    prepare(Coco14DatasetSettings(root=str(made.root)), tmp_path / "out", 1)
    found = json.loads((tmp_path / "out/dataset.json").read_text())
    assert found["splits"]["train"] == {
        "images": 8, "without_labels": 1, "masks": 8, "agree": 8, "other_classes": 0,
        "missing_classes": 0, "no_class": 0,
    }  # fmt: skip
    assert len(read_index(tmp_path / "out/index.csv").classes) == len(found["classes"]) == 80


class TestVoc:
    """Annotations and lists of VOC."""

    OBJECT = "<object><name> cat </name><difficult>1</difficult></object>"

    @pytest.mark.parametrize(
        "text",
        [
            "<annotation>{}</annotation>", "\ufeff<annotation>{}</annotation>",
            '<?xml version="1.0" encoding="UTF-8"?>\n<annotation>{}</annotation>',
            '<annotation xmlns="http://example.org/voc">{}</annotation>',
            "<annotation><folder/>{}{}</annotation>",
        ],
    )  # fmt: skip
    def test_annotations_of_other_programs(self, tmp_path: Path, text: str) -> None:
        path = tmp_path / "a.xml"
        path.write_text(text.format(self.OBJECT, self.OBJECT), encoding="utf-8")
        assert labels_from_xml(path, difficult=True) == ("cat",)
        assert labels_from_xml(path, difficult=False) == ()

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("", "not a readable annotation"), ("<annotation>", "not a readable annotation"),
            ("<html></html>", "its root is <html>"), ("{}", "not a readable annotation"),
            ("<annotation><object/></annotation>", "'' is none of VOC's 20 classes"),
            ("<annotation><object><name>Cat</name></object></annotation>", "is it 'cat'?"),
            ('<?xml version="1.0" encoding="nonsense"?><annotation/>', "not a readable annotation"),
        ],
    )  # fmt: skip
    def test_others_are_named(self, tmp_path: Path, text: str, message: str) -> None:
        (tmp_path / "a.xml").write_text(text)
        with pytest.raises(InputError) as refused:
            labels_from_xml(tmp_path / "a.xml", difficult=True)
        assert message in str(refused.value)

    def test_lists(self, tmp_path: Path) -> None:
        path = tmp_path / "train.txt"
        path.write_text("\ufeffa\n\n b.JPG \nx/c.jpeg y/c.png\nx\\d.png\n2007_000032.v2\n")
        assert read_list(path) == ["a", "b", "c", "d", "2007_000032.v2"]
        path.write_text("\n \n")
        with pytest.raises(InputError, match="names no image"):
            read_list(path)
