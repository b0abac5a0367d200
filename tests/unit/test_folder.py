import csv
import logging
import unicodedata
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.miniatures import MiniFolder, build_folder, without_masks
from workflow_scripts.datasets.images import read_image, read_mask
from workflow_scripts.datasets.index import Index, read_index
from workflow_scripts.datasets.kinds.folder import FolderDatasetSettings, prepare
from workflow_scripts.datasets.table import choose_splits, make_ids
from workflow_scripts.errors import InputError
from workflow_scripts.settings.base import validate
from workflow_scripts.storage.masks import encode_mask


def prepared(root: Path, output: Path, processes: int = 1, **values: object) -> Index:
    settings = FolderDatasetSettings.model_validate({"root": str(root), **values})
    prepare(settings, output, processes)
    return read_index(output / "index.csv")


def small(root: Path, table: str, *images: str) -> Path:
    """A folder with a table and 8×6 images of the given names."""
    (root / "images").mkdir(parents=True)
    for name in images:
        (root / "images" / name).parent.mkdir(exist_ok=True)
        Image.new("RGB", (8, 6), "red").save(root / "images" / name)
    (root / "labels.csv").write_text(table, encoding="utf-8")
    return root


def fails(root: Path, match: str, **values: object) -> str:
    output = root.parent / "failed"
    with pytest.raises(InputError, match=match) as caught:
        prepared(root, output, **values)
    assert not (output / "index.csv").exists()
    return str(caught.value)


@pytest.mark.parametrize("classes", [3, 120])
def test_thirty_images_of_all_kinds(tmp_path: Path, classes: int):
    made = build_folder(tmp_path / "mine", 30, classes)
    index = prepared(made.root, tmp_path / "out", classes=made.classes)
    assert index.classes == tuple(made.classes)
    assert len(index.records) == 30
    by_path = {record.path: record for record in index.records}
    assert {path.suffix for path in by_path} >= {".jpg", ".png", ".webp", ".JPG"}
    for name, scene in made.scenes.items():
        record = by_path[made.root / "images" / name]
        assert list(record.labels) == scene.labels
        assert (record.height, record.width) == scene.mask.shape
        assert read_image(record.path).shape == scene.image.shape
        assert record.mask is not None
        np.testing.assert_array_equal(read_mask(record.mask), scene.mask)


def test_without_masks(tmp_path: Path):
    made = build_folder(tmp_path / "mine")
    with_masks = prepared(made.root, tmp_path / "a")
    without_masks(made.root)
    without = prepared(made.root, tmp_path / "b")
    assert all(record.mask is None for record in without.records)
    assert [r.id for r in without.records] == [r.id for r in with_masks.records]
    assert [r.split for r in without.records] == [r.split for r in with_masks.records]


def test_masks_of_other_images_are_no_masks(tmp_path: Path):
    root = small(tmp_path / "mine", "image,labels\na.png,cat\nb.png,dog\n", "a.png", "b.png")
    (root / "masks").mkdir()
    assert len(prepared(root, tmp_path / "out").records) == 2
    for name in ("c", "d"):
        (root / "masks" / f"{name}.png").write_bytes(encode_mask(np.zeros((6, 8), np.uint8)))
    fails(root, "none of its 2 mask.s. belongs to an image")


def test_processes_change_nothing(tmp_path: Path):
    made = build_folder(tmp_path / "mine")
    for processes in (1, 2):
        prepared(made.root, tmp_path / str(processes), processes)
    for name in ("index.csv", "classes.csv"):
        assert (tmp_path / "1" / name).read_bytes() == (tmp_path / "2" / name).read_bytes()


def test_split_column(tmp_path: Path):
    made = build_folder(tmp_path / "mine", split=True)
    index = prepared(made.root, tmp_path / "out")
    assert len(index.of_split("val")) == 6
    assert len(index.of_split("train")) == 24


class TestSeededSplit:
    IDS = [f"image {number}" for number in range(100)]  # noqa: RUF012

    def test_share(self):
        assert choose_splits(self.IDS, 0.2, 0).count("val") == 20

    def test_seed_and_order(self):
        first = dict(zip(self.IDS, choose_splits(self.IDS, 0.2, 0), strict=True))
        turned = self.IDS[::-1]
        assert dict(zip(turned, choose_splits(turned, 0.2, 0), strict=True)) == first
        assert dict(zip(self.IDS, choose_splits(self.IDS, 0.2, 1), strict=True)) != first

    @pytest.mark.parametrize("share", [0.01, 0.99])
    def test_both_get_one(self, share: float):
        assert sorted(choose_splits(["a", "b"], share, 0)) == ["train", "val"]

    def test_one_image_is_too_few(self):
        with pytest.raises(InputError, match="at least two"):
            choose_splits(["a"], 0.5, 0)


@pytest.mark.parametrize(
    ("names", "ids"),
    [
        (["a.jpg", "b.png"], ["a", "b"]),
        (["v1.2.jpg", "v1.3.jpg"], ["v1.2", "v1.3"]),
        (["a.jpg", "a.png"], ["a.jpg", "a.png"]),
        (["a.jpg", "a.png", "a.jpg.png"], ["a.jpg", "a.png", "a.jpg.png"]),
        (["x/a.jpg", "y/a.jpg"], ["x_a", "y_a"]),
        (["x/a.jpg", "x_a.jpg"], ["x_a.jpg", "x_a.jpg-2"]),
        (["a.jpg.png", "a.jpg", "a.png"], ["a.jpg.png", "a.jpg", "a.png"]),
        (["x_a.jpg", "x/a.jpg"], ["x_a.jpg-2", "x_a.jpg"]),
        (["A.jpg", "a.jpg"], ["A.jpg", "a.jpg-2"]),
    ],
)
def test_ids_are_unique(names: list[str], ids: list[str]):
    assert make_ids(names) == ids


def test_classes_are_sorted_by_default_or_as_configured(tmp_path: Path):
    root = small(tmp_path / "mine", "image,labels\na.png,dog; cat\nb.png,ant\n", "a.png", "b.png")
    assert prepared(root, tmp_path / "a").classes == ("ant", "cat", "dog")
    configured = prepared(root, tmp_path / "b", classes=["dog", "cat", "ant"])
    assert configured.classes == ("dog", "cat", "ant")
    assert configured.records[0].labels == (1, 2)


def test_image_without_labels_is_background(tmp_path: Path):
    root = small(tmp_path / "mine", "image,labels\na.png,x\nb.png,\n", "a.png", "b.png")
    assert prepared(root, tmp_path / "out").records[1].labels == ()


def test_images_beside_the_table(tmp_path: Path):
    root = tmp_path / "mine"
    (root / "masks").mkdir(parents=True)
    for name in ("a", "b"):
        Image.new("RGB", (8, 6)).save(root / f"{name}.jpg")
        (root / "masks" / f"{name}.png").write_bytes(encode_mask(np.ones((6, 8), np.uint8)))
    (root / "labels.csv").write_text("image,labels\na.jpg,x\nb.jpg,x\n")
    index = prepared(root, tmp_path / "out")
    assert [record.id for record in index.records] == ["a", "b"]
    assert index.records[0].mask == root / "masks" / "a.png"


def test_names_with_the_folder_in_front(tmp_path: Path):
    table = "image,labels\nimages/a.png,x\nimages/b.png,x\n"
    root = small(tmp_path / "mine", table, "a.png", "b.png")
    assert len(prepared(root, tmp_path / "out").records) == 2


def test_two_ways_to_write_an_accent(tmp_path: Path):
    decomposed = unicodedata.normalize("NFD", "é.png")
    assert decomposed != "é.png"
    table = "image,labels\né.png,café\nb.png,cafe\u0301\n"
    root = small(tmp_path / "mine", table, decomposed, "b.png")
    index = prepared(root, tmp_path / "out")
    assert index.classes == ("café",)
    assert [record.id for record in index.records] == ["é", "b"]
    assert index.records[0].path.exists()


def test_spreadsheet_tables(tmp_path: Path):
    table = "\ufeffImage, Labels ,note\r\na.png, x ;y; ,n\r\nb.png,x,\r\n"
    root = small(tmp_path / "mine", table, "a.png", "b.png")
    assert prepared(root, tmp_path / "out").records[0].labels == (1, 2)


class TestBadInput:
    def test_no_table(self, tmp_path: Path):
        (tmp_path / "mine").mkdir()
        fails(tmp_path / "mine", r"labels\.csv: no such table")

    def test_no_folder(self, tmp_path: Path):
        fails(tmp_path / "mine", "no such folder")

    @pytest.mark.parametrize(
        ("table", "match"),
        [
            ("", "no column `image`"),
            ("image,labels\n", "no rows"),
            ("picture,labels\na.png,x\n", "no column `image`"),
            ("image,label\na.png,x\n", "no column `labels`"),
            ("image,labels\na.png,x,y\n", "line 2: more fields"),
            ("image,labels\n,x\n", "line 2: the field `image` is empty"),
            ("image,labels\na.png,x\nc.png,x\n", r"line 3: no image 'c\.png'"),
            ("image,labels\na.png,x;y\na.png,x\n", "line 3: .* has a row already, in line 2"),
            ("image,labels\na.png,\nb.png,\n", "no image has any label"),
            ("image,labels,split\na.png,x,train\nb.png,x,\n", "line 3: .* has no split"),
            ("image,labels,split\na.png,x,train\nb.png,x,train\n", "no image is in split `val`"),
            ("image,labels,split\na.png,x,val\nb.png,x,val\n", "no image is in split `train`"),
            ("image,labels\na.png,x\n", "at least two images"),
        ],
    )
    def test_tables(self, tmp_path: Path, table: str, match: str):
        fails(small(tmp_path / "mine", table, "a.png", "b.png"), match)

    def test_table_that_is_not_utf8(self, tmp_path: Path):
        root = small(tmp_path / "mine", "", "a.png")
        (root / "labels.csv").write_bytes("image,labels\na.png,Bär\n".encode("latin-1"))
        fails(root, "UTF-8")

    def test_label_not_in_the_list_of_classes(self, tmp_path: Path):
        root = small(tmp_path / "mine", "image,labels\na.png,x\nb.png,z\n", "a.png", "b.png")
        message = fails(root, "label 'z'", classes=["x", "y"])
        assert "line 3" in message
        assert "b.png" in message

    def test_image_without_row(self, tmp_path: Path, caplog: pytest.LogCaptureFixture):
        table = "image,labels\na.png,x\nb.png,x\n"
        root = small(tmp_path / "mine", table, "a.png", "b.png", "c.png")
        assert len(prepared(root, tmp_path / "out").records) == 2
        assert "1 image(s) without a row are left out: c.png" in caplog.text

    def test_class_that_no_image_has(self, tmp_path: Path, caplog: pytest.LogCaptureFixture):
        root = small(tmp_path / "mine", "image,labels\na.png,x\nb.png,x\n", "a.png", "b.png")
        assert prepared(root, tmp_path / "out", classes=["x", "ghost"]).classes == ("x", "ghost")
        assert "no image has the class 'ghost'" in caplog.text

    @pytest.mark.parametrize("processes", [1, 2])
    def test_truncated_image(self, tmp_path: Path, processes: int):
        made = build_folder(tmp_path / "mine")
        path = made.root / "images" / "same stem.jpg"
        path.write_bytes(path.read_bytes()[:400])
        with pytest.raises(InputError, match=r"same stem\.jpg: not a readable image"):
            prepared(made.root, tmp_path / "out", processes)

    def mask(self, tmp_path: Path, mask: np.ndarray) -> Path:
        root = small(tmp_path / "mine", "image,labels\na.png,x\nb.png,x\n", "a.png", "b.png")
        (root / "masks").mkdir()
        (root / "masks" / "a.png").write_bytes(encode_mask(mask))
        return root

    def test_mask_of_another_size(self, tmp_path: Path):
        root = self.mask(tmp_path, np.ones((8, 6), np.uint8))
        assert "masks/a.png" in fails(root, "has 6×8 pixels, its image .*a.png has 8×6")

    def test_mask_with_unknown_value(self, tmp_path: Path):
        root = self.mask(tmp_path, np.full((6, 8), 7, np.uint8))
        assert "masks/a.png" in fails(root, "unknown value 7")

    def test_mask_in_colour(self, tmp_path: Path):
        root = self.mask(tmp_path, np.ones((6, 8), np.uint8))
        Image.new("RGB", (8, 6), (1, 2, 3)).save(root / "masks" / "a.png")
        fails(root, r"colour \(1, 2, 3\) is none of VOC's palette")

    def test_mask_with_a_class_that_is_no_label(
        self, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ):
        root = self.mask(tmp_path, np.full((6, 8), 2, np.uint8))
        index = prepared(root, tmp_path / "out", classes=["x", "y"])
        assert index.records[0].labels == (1,)
        assert "1 time(s) a mask shows a class" in caplog.text
        assert "a.png: 'y'" in caplog.text

    def test_mask_without_image(self, tmp_path: Path, caplog: pytest.LogCaptureFixture):
        root = self.mask(tmp_path, np.ones((6, 8), np.uint8))
        (root / "masks" / "c.png").write_bytes(encode_mask(np.ones((6, 8), np.uint8)))
        with caplog.at_level(logging.INFO):
            prepared(root, tmp_path / "out")
        assert "belong to no image, for instance c.png" in caplog.text

    @pytest.mark.parametrize(
        "classes", [["a", "a"], ["a;b"], [""], [" a"], [f"c{i}" for i in range(255)]]
    )
    def test_class_names(self, classes: list[str]):
        with pytest.raises(InputError, match="classes"):
            validate(FolderDatasetSettings, {"classes": classes}, "config.yaml")


def test_index_holds_absolute_paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    made: MiniFolder = build_folder(tmp_path / "mine")
    monkeypatch.chdir(tmp_path)
    prepared(Path("mine"), tmp_path / "out")
    with (tmp_path / "out" / "index.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    assert {Path(row["path"]).is_absolute() for row in rows} == {True}
    assert len(rows) == len(made.scenes)


@pytest.mark.parametrize("root", ["~/my data", "$HOME/my data", "${HOME}/my data"])
def test_places_in_the_home_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, root: str
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    build_folder(tmp_path / "my data", 8)
    settings = FolderDatasetSettings(root=root)
    assert settings.tables() == [tmp_path / "my data/labels.csv"]
    assert len(prepared(Path(settings.root), tmp_path / "out").records) == 8


@pytest.mark.parametrize(
    "name", ["a b", "{x}", "a'b", 'a"b', "$unset", "100%", "猫", "a;b", "a\\b"]
)
def test_odd_names_of_folders(tmp_path: Path, name: str) -> None:
    made = build_folder(tmp_path / name, 8)
    index = prepared(made.root, tmp_path / "out")
    assert all(record.path.is_file() for record in index.records)
