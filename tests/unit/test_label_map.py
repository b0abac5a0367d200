"""Masks in the colours of an annotation tool, read by the `labelmap.txt` that it writes beside them."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from workflow_scripts.datasets.images import read_mask
from workflow_scripts.datasets.index import RESERVED, read_index
from workflow_scripts.datasets.kinds.folder import FolderDatasetSettings, prepare
from workflow_scripts.datasets.label_map import read_label_map
from workflow_scripts.errors import InputError

CVAT = """# label:color_rgb:parts:actions
background:0,0,0::
dog:250,50,83::
cat:51,221,255::
ignored:1,2,3::
"""
COLOURS = [(0, 0, 0), (250, 50, 83), (51, 221, 255), (1, 2, 3)]


def painted(path: Path, colours: list[tuple[int, int, int]]) -> Path:
    """A mask of one row, a pixel for each colour."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.array([colours], np.uint8)).save(path)
    return path


def export(root: Path, text: str = CVAT) -> Path:
    """An export as CVAT lays it out, with a photograph and a table beside it."""
    painted(root / "SegmentationClass" / "a.png", COLOURS)
    (root / "images").mkdir()
    Image.new("RGB", (4, 1), "red").save(root / "images" / "a.png")
    Image.new("RGB", (4, 1), "red").save(root / "images" / "b.png")
    (root / "labels.csv").write_text("image,labels,split\na.png,cat;dog,train\nb.png,cat,val\n")
    (root / "labelmap.txt").write_text(text, encoding="utf-8")
    return root


@pytest.mark.parametrize("level", [0, 1, 2])
def test_colours_are_numbers_in_the_order_of_the_map(tmp_path, level):
    """Not in the order of names, in which `cat` were 1."""
    mask = painted(tmp_path / "SegmentationClass" / "walk 1" / "a.png", COLOURS)
    (mask.parents[level] / "labelmap.txt").write_text(CVAT)
    assert read_mask(mask).tolist() == [[0, 1, 2, 255]]


def test_black_is_background_where_the_map_does_not_say_so(tmp_path):
    mask = painted(tmp_path / "a.png", [(0, 0, 0), (9, 9, 9)])
    (tmp_path / "labelmap.txt").write_text("dog:9,9,9::\n")
    assert read_mask(mask).tolist() == [[0, 1]]


def test_a_class_may_be_black_and_have_colons(tmp_path):
    (tmp_path / "labelmap.txt").write_text("background:7,7,7::\nsky:at:night:0,0,0:a,b:c\n")
    found = read_label_map(tmp_path / "labelmap.txt")
    assert found.classes == ("sky:at:night",)
    assert found.numbers[0, 0, 0] == 1 and found.numbers[7, 7, 7] == 0


def test_an_edited_map_is_read_again(tmp_path):
    mask = painted(tmp_path / "a.png", [(1, 1, 1), (2, 2, 2)])
    names = tmp_path / "labelmap.txt"
    names.write_text("a:1,1,1::\nb:2,2,2::\n")
    assert read_mask(mask).tolist() == [[1, 2]]
    names.write_text("b:2,2,2::\na:1,1,1::\n# turned\n")
    assert read_mask(mask).tolist() == [[2, 1]]


def test_a_strange_colour_is_named_with_the_map(tmp_path):
    mask = painted(tmp_path / "a.png", [(0, 0, 0), (8, 8, 8)])
    (tmp_path / "labelmap.txt").write_text(CVAT)
    with pytest.raises(InputError, match=r"a\.png: the mask's colour \(8, 8, 8\).*labelmap\.txt"):
        read_mask(mask)


def test_without_a_map_the_error_says_that_one_helps(tmp_path):
    with pytest.raises(InputError, match=r"labelmap\.txt"):
        read_mask(painted(tmp_path / "a.png", COLOURS))


@pytest.mark.parametrize(
    "text, message",
    [
        ("dog\n", r"line 1: 'dog' is no entry"),
        ("dog:1,2::\n", "line 1"),
        ("# x\n\ndog:1,2,300::\n", r"line 3: the colour \(1, 2, 300\) is no colour"),
        ("dog:1,2,3::\ncat:1,2,3::\n", r"line 2: the colour \(1, 2, 3\) of 'cat'"),
        ("dog:1,2,3::\ndog:1,2,4::\n", "listed twice"),
        ("background:0,0,0::\n", "0 classes"),
        ("", "0 classes"),
    ],
)
def test_maps_without_meaning_are_refused(tmp_path, text, message):
    (tmp_path / "labelmap.txt").write_text(text)
    with pytest.raises(InputError, match=message) as caught:
        read_label_map(tmp_path / "labelmap.txt")
    assert "labelmap.txt" in str(caught.value)


def test_a_folder_takes_classes_and_their_order_from_the_map(tmp_path):
    root = export(tmp_path / "mine")
    settings = FolderDatasetSettings(root=str(root), masks="SegmentationClass")
    before = settings.state()
    prepare(settings, tmp_path / "out", 1)
    index = read_index(tmp_path / "out" / "index.csv")
    assert index.classes == ("dog", "cat")
    assert index.records[0].labels == (1, 2) and index.records[1].labels == (2,)
    (root / "labelmap.txt").write_text(CVAT.replace("250,50,83", "250,50,84"))
    assert settings.state() != before


def test_a_map_in_a_sub_folder_counts_and_serves_what_lies_there(tmp_path):
    root = export(tmp_path / "mine")
    inside = root / "masks" / "mine"
    painted(inside / "a.png", COLOURS)
    (root / "images" / "mine").mkdir()
    (root / "images" / "a.png").rename(root / "images" / "mine" / "a.png")
    table = (root / "labels.csv").read_text()
    (root / "labels.csv").write_text(table.replace("a.png", "mine/a.png"))
    (inside / "labelmap.txt").write_text(CVAT)
    (root / "labelmap.txt").unlink()
    settings = FolderDatasetSettings(root=str(root), masks="masks")
    prepare(settings, tmp_path / "out", 1)
    assert read_index(tmp_path / "out" / "index.csv").classes == ("dog", "cat")
    before = settings.state()
    (inside / "labelmap.txt").write_text(CVAT.replace("250,50,83", "250,50,84"))
    assert settings.state() != before
    painted(root / "masks" / "b.png", COLOURS)
    (inside / "labelmap.txt").write_text(CVAT)
    with pytest.raises(InputError, match=r"labelmap\.txt: serves the masks .*b\.png.*move it to"):
        prepare(settings, tmp_path / "again", 1)


def test_classes_in_another_order_are_refused(tmp_path):
    root = export(tmp_path / "mine")
    settings = FolderDatasetSettings(
        root=str(root), masks="SegmentationClass", classes=("cat", "dog")
    )
    with pytest.raises(
        InputError, match=r"labelmap\.txt: its classes are dog, cat.*dataset\.classes"
    ):
        prepare(settings, tmp_path / "out", 1)
    assert not (tmp_path / "out").exists() or not list((tmp_path / "out").iterdir())


names = (
    st.text("abcdefgh: é猫", min_size=1, max_size=8)
    .map(str.strip)
    .filter(lambda name: name and name.casefold() not in RESERVED)
)
colours = st.tuples(*[st.integers(0, 255)] * 3)


@given(
    st.lists(names, min_size=1, max_size=8, unique_by=lambda name: "".join(name.split())),
    st.lists(colours, min_size=8, max_size=8, unique=True),
)
@settings(max_examples=200, deadline=None)
def test_maps_say_the_same_when_read_again(tmp_path_factory, found, shades):
    path = tmp_path_factory.mktemp("map") / "labelmap.txt"
    lines = [f"{name}:{r},{g},{b}::" for name, (r, g, b) in zip(found, shades, strict=False)]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    label_map = read_label_map(path)
    assert label_map.classes == tuple(found)
    assert [label_map.numbers[shade] for shade in shades[: len(found)]] == list(
        range(1, len(found) + 1)
    )
