import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pycocotools import mask as rle

from tests.coco_categories import COCO_CATEGORIES
from tests.loopback import Loopback
from tests.miniatures import MiniCoco, build_coco
from workflow_scripts.datasets import coco_annotations
from workflow_scripts.datasets.coco_annotations import read_annotations, render
from workflow_scripts.datasets.images import read_image, read_mask
from workflow_scripts.datasets.index import read_index
from workflow_scripts.datasets.kinds.coco14 import Coco14DatasetSettings, prepare
from workflow_scripts.errors import InputError
from workflow_scripts.settings.base import validate

# pycocotools' arrays are of NumPy 1's protocol.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

NUMBERS = {1: 1, 5: 2, 90: 3}


@pytest.fixture
def coco(tmp_path: Path) -> MiniCoco:
    return build_coco(tmp_path / "made")


def in_place(coco: MiniCoco) -> Coco14DatasetSettings:
    return Coco14DatasetSettings(root=str(coco.root))


def edit(coco: MiniCoco, change: Any, split: str = "train") -> Path:
    path = coco.root / "annotations" / f"instances_{split}2014.json"
    document = json.loads(path.read_text())
    change(document)
    path.write_text(json.dumps(document))
    return path


def rectangle(
    left: int, top: int, right: int, bottom: int, category: int, number: int, **more: Any
) -> dict[str, Any]:
    corners = [left, top, right, top, right, bottom, left, bottom]
    return {
        "id": number,
        "category_id": category,
        "iscrowd": 0,
        "segmentation": [[float(corner) for corner in corners]],
        **more,
    }


def test_folder_in_place(coco: MiniCoco, tmp_path: Path):
    prepare(in_place(coco), tmp_path / "out", 1)
    index = read_index(tmp_path / "out" / "index.csv")
    assert index.classes == tuple(name for _, name in COCO_CATEGORIES)
    assert [len(index.of_split(split)) for split in ("train", "val")] == [8, 4]
    for split in ("train", "val"):
        *others, last = index.of_split(split)
        assert last.labels == ()
        assert last.mask is not None
        assert not read_mask(last.mask).any()
        for record in others:
            scene = coco.scenes[record.id]
            assert list(record.labels) == scene.labels
            assert record.mask is not None
            np.testing.assert_array_equal(read_mask(record.mask), scene.mask)
            assert read_image(record.path).shape == (record.height, record.width, 3)
            assert record.path.is_relative_to(coco.root)


def test_archives_over_http(coco: MiniCoco, tmp_path: Path):
    with Loopback(coco.files()) as server:
        settings = validate(Coco14DatasetSettings, coco.settings(server, tmp_path / "data"), "test")
        server.cut_at = [coco.annotations.stat().st_size * 6 // 10]
        prepare(settings, tmp_path / "out", 1)
        prepare(settings, tmp_path / "again", 1)
        assert len(server.requests) == 4
    assert len(read_index(tmp_path / "out" / "index.csv").records) == 12


def test_processes_change_nothing(coco: MiniCoco, tmp_path: Path):
    for processes in (1, 2):
        prepare(in_place(coco), tmp_path / str(processes), processes)
    files = [
        {
            path.relative_to(folder): path.read_bytes()
            for path in folder.rglob("*")
            if path.is_file()
        }
        for folder in (tmp_path / "1", tmp_path / "2")
    ]
    assert files[0] == files[1]


class TestRender:
    def test_smaller_objects_lie_on_top(self):
        small = rectangle(4, 4, 6, 6, category=5, number=1)
        large = rectangle(2, 2, 10, 8, category=90, number=2)
        expected = np.zeros((10, 12), np.uint8)
        expected[2:8, 2:10] = 3
        expected[4:6, 4:6] = 2
        for order in ([small, large], [large, small]):
            np.testing.assert_array_equal(render(order, 10, 12, NUMBERS), expected)

    def test_of_equal_size_the_later_lies_on_top(self):
        first = rectangle(0, 0, 4, 4, category=1, number=7)
        second = rectangle(2, 0, 6, 4, category=5, number=8)
        for order in ([first, second], [second, first]):
            assert render(order, 4, 6, NUMBERS)[0].tolist() == [1, 1, 2, 2, 2, 2]

    @pytest.mark.parametrize("compressed", [False, True])
    def test_crowds_are_ignored_below_everything(self, compressed: bool):
        region = np.zeros((4, 6), np.uint8, order="F")
        region[:, :2] = 1
        counts: Any = {"size": [4, 6], "counts": [0, 8, 16]}
        if compressed:
            counts = rle.encode(region)
            counts["counts"] = counts["counts"].decode()
        crowd = rectangle(0, 0, 1, 1, 1, 5, iscrowd=1, segmentation=counts)
        thing = rectangle(1, 0, 6, 4, category=5, number=1)
        for order in ([crowd, thing], [thing, crowd]):
            assert render(order, 4, 6, NUMBERS)[0].tolist() == [255, 2, 2, 2, 2, 2]

    def test_several_polygons_are_one_object(self):
        thing = rectangle(0, 0, 2, 2, 1, 1)
        thing["segmentation"] += rectangle(4, 0, 6, 2, 1, 1)["segmentation"]
        assert render([thing], 2, 6, NUMBERS)[0].tolist() == [1, 1, 0, 0, 1, 1]

    @pytest.mark.parametrize("segmentation", [[], [[1.0, 1.0, 3.0, 3.0]]])
    def test_regions_without_area(self, segmentation: list[Any]):
        thing = rectangle(0, 0, 1, 1, 1, 1, segmentation=segmentation)
        assert not render([thing], 4, 4, NUMBERS).any()

    def test_no_annotation_is_background(self):
        assert not render([], 4, 6, NUMBERS).any()

    @pytest.mark.parametrize(
        "segmentation", [{"size": [9, 9], "counts": [81]}, {"counts": "x"}, [["a"] * 8], 5]
    )
    def test_malformed_segmentation(self, segmentation: Any):
        thing = rectangle(0, 0, 1, 1, 1, 33, segmentation=segmentation)
        with pytest.raises(InputError, match="annotation 33: malformed"):
            render([thing], 4, 6, NUMBERS)


def test_crowd_alone_gives_its_label(coco: MiniCoco, tmp_path: Path):
    def crowd(document: dict[str, Any]) -> None:
        thing = document["annotations"][0]
        image = document["images"][0]
        thing["iscrowd"] = 1
        size = [image["height"], image["width"]]
        thing["segmentation"] = {"size": size, "counts": [0, 100, size[0] * size[1] - 100]}
        document["annotations"] = [thing]

    edit(coco, crowd)
    prepare(in_place(coco), tmp_path / "out", 1)
    record = read_index(tmp_path / "out" / "index.csv").records[0]
    assert len(record.labels) == 1
    assert record.mask is not None
    assert np.unique(read_mask(record.mask)).tolist() == [0, 255]


def test_categories_keep_the_order_of_the_file(coco: MiniCoco):
    path = edit(coco, lambda document: document["categories"].reverse())
    listed = read_annotations(path)
    assert listed.classes[:2] == ("toothbrush", "hair drier")
    assert listed.numbers[90] == 1


def test_names_outside_ascii(coco: MiniCoco):
    path = coco.root / "annotations" / "instances_train2014.json"
    text = path.read_text().replace('"hair drier"', '"sèche-cheveux 猫"')
    path.write_text(text, encoding="utf-8")
    assert read_annotations(path).classes[-2] == "sèche-cheveux 猫"


@pytest.mark.parametrize("indent", [None, 2])
@pytest.mark.parametrize("chunk", [1, 7, 64, 1 << 20])
def test_stream_reads_as_json_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, chunk: int, indent: int | None
):
    document = {
        "n": 123,
        "images": [{"id": 1, "t": 'é "]}, {"'}, {"id": 22, "x": [1.5, -2e3, None]}],
        "empty": [],
        "info": {"images": [{"id": 3}]},
        "annotations": [17, "text", True],
    }
    path = tmp_path / "a.json"
    path.write_text(json.dumps(document, indent=indent, ensure_ascii=False), encoding="utf-8")
    monkeypatch.setattr(coco_annotations, "CHUNK", chunk)
    found: dict[str, list[Any]] = {"images": [], "annotations": []}
    for item in coco_annotations.items(path, found):
        found[item.key].append(coco_annotations.read_again(path, item.start, item.end))
    assert found == {key: document[key] for key in found}


def test_truncated_annotations(coco: MiniCoco, tmp_path: Path):
    path = coco.root / "annotations" / "instances_val2014.json"
    path.write_bytes(path.read_bytes()[:3000])
    with pytest.raises(InputError, match=f"{path}: not a complete JSON"):
        prepare(in_place(coco), tmp_path / "out", 1)


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (lambda d: d["annotations"][0].update(category_id=12), "category 12 is not listed"),
        (lambda d: d["annotations"][0].update(image_id=999), "belongs to image 999"),
        (lambda d: d["images"][0].update(file_name="../x.jpg"), "not a plain name"),
        (lambda d: d["images"][0].update(width=1000), "says 1000×48"),
        (lambda d: d["images"][0].pop("width"), "take COCO.s own instance annotations"),
        (lambda d: d.pop("categories"), "no categories"),
        (lambda d: d["categories"].pop(), "categories differ"),
    ],
)
def test_inconsistent_annotations(coco: MiniCoco, tmp_path: Path, change: Any, match: str):
    edit(coco, change)
    with pytest.raises(InputError, match=match):
        prepare(in_place(coco), tmp_path / "out", 1)
    assert not (tmp_path / "out" / "index.csv").exists()


def test_missing_image(coco: MiniCoco, tmp_path: Path):
    path = next((coco.root / "val2014").iterdir())
    path.unlink()
    with pytest.raises(InputError, match=str(path)):
        prepare(in_place(coco), tmp_path / "out", 1)


def test_missing_folder(tmp_path: Path):
    with pytest.raises(InputError, match="train2014: no such folder"):
        prepare(Coco14DatasetSettings(root=str(tmp_path)), tmp_path / "out", 1)
