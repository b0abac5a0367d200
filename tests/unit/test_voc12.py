import csv
import hashlib
import logging
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tests.loopback import Loopback
from tests.miniatures import MiniVoc, build_voc
from workflow_scripts.datasets.images import read_image, read_mask
from workflow_scripts.datasets.index import ImageRecord, Index, read_index
from workflow_scripts.datasets.kinds.voc12 import CLASSES, Voc12DatasetSettings, prepare, read_list
from workflow_scripts.errors import InputError
from workflow_scripts.settings.base import validate


@pytest.fixture
def voc(tmp_path: Path) -> MiniVoc:
    return build_voc(tmp_path / "made")


def in_place(voc: MiniVoc, **values: object) -> Voc12DatasetSettings:
    given = {"root": str(voc.root), "sbd_root": str(voc.sbd_root), **values}
    return Voc12DatasetSettings.model_validate(given)


def prepared(
    settings: Voc12DatasetSettings, output: Path, processes: int = 1
) -> tuple[Index, dict[str, ImageRecord]]:
    prepare(settings, output, processes)
    index = read_index(output / "index.csv")
    return index, {record.id: record for record in index.records}


def snapshot(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): hashlib.md5(path.read_bytes()).hexdigest()
        for path in folder.rglob("*")
        if path.is_file()
    }


def test_devkit_in_place(voc: MiniVoc, tmp_path: Path):
    before = snapshot(tmp_path / "made")
    index, records = prepared(in_place(voc), tmp_path / "out")
    assert snapshot(tmp_path / "made") == before
    assert index.classes == CLASSES
    ids = {split: [r.id for r in index.of_split(split)] for split in ("train", "val", "train_aug")}
    assert ids == {"train": voc.train, "val": voc.val, "train_aug": voc.train_aug}
    assert len(records) == 12
    for image_id, record in records.items():
        image = read_image(record.path)
        assert image.shape == (record.height, record.width, 3)
        assert list(record.labels) == voc.scenes[image_id].labels
        assert record.mask is not None
        mask = read_mask(record.mask)
        assert mask.shape == image.shape[:2]
        if record.split == "train_aug":
            np.testing.assert_array_equal(mask, voc.scenes[image_id].mask)
        else:
            assert (mask == 255).any()
            inside = mask != 255
            np.testing.assert_array_equal(mask[inside], voc.scenes[image_id].mask[inside])
    assert records[voc.train[0]].mask == voc.root / "SegmentationClass" / f"{voc.train[0]}.png"


def test_images_stay_absolute_and_masks_relative(voc: MiniVoc, tmp_path: Path):
    prepare(in_place(voc), tmp_path / "out", 1)
    with (tmp_path / "out" / "index.csv").open() as stream:
        for row in csv.DictReader(stream):
            assert Path(row["path"]).is_absolute()
            assert Path(row["mask"]).is_absolute() == (row["split"] != "train_aug")


def test_archives_over_http(voc: MiniVoc, tmp_path: Path):
    with Loopback(voc.files()) as server:
        settings = validate(Voc12DatasetSettings, voc.settings(server, tmp_path / "data"), "test")
        server.cut_at = [voc.trainval.stat().st_size * 6 // 10]
        index, _ = prepared(settings, tmp_path / "out")
        fetched = len(server.requests)
        again, _ = prepared(settings, tmp_path / "again")
        assert len(server.requests) == fetched == 3
    assert again.records[0] == index.records[0]
    reference, _ = prepared(in_place(voc), tmp_path / "reference")
    assert [r.id for r in index.records] == [r.id for r in reference.records]
    assert [r.labels for r in index.records] == [r.labels for r in reference.records]
    assert snapshot(tmp_path / "out" / "masks") == snapshot(tmp_path / "reference" / "masks")


def test_processes_change_nothing(voc: MiniVoc, tmp_path: Path):
    prepare(in_place(voc), tmp_path / "one", 1)
    prepare(in_place(voc), tmp_path / "two", 2)
    assert snapshot(tmp_path / "one") == snapshot(tmp_path / "two")


def test_difficult_objects(voc: MiniVoc, tmp_path: Path):
    image_id = voc.train[1]
    scene = voc.scenes[image_id].labels
    _, counted = prepared(in_place(voc), tmp_path / "a")
    _, not_counted = prepared(in_place(voc, difficult=False), tmp_path / "b")
    assert list(counted[image_id].labels) == scene
    assert list(not_counted[image_id].labels) == scene[1:]


def test_without_augmentation_no_sbd_is_needed(voc: MiniVoc, tmp_path: Path):
    settings = in_place(voc, augmented=False, sbd_root=None)
    index, _ = prepared(settings, tmp_path / "out")
    assert {record.split for record in index.records} == {"train", "val"}


def test_devkit_with_augmentation_in_it(voc: MiniVoc, tmp_path: Path):
    prepare(in_place(voc), tmp_path / "out", 1)
    (tmp_path / "out" / "masks").rename(voc.root / "SegmentationClassAug")
    lines = [
        f"/JPEGImages/{name}.jpg /SegmentationClassAug/{name}.png\n"
        for name in voc.train + voc.train_aug
    ]
    (voc.root / "ImageSets" / "Segmentation" / "trainaug.txt").write_text("".join(lines))
    index, records = prepared(in_place(voc, sbd_root=None), tmp_path / "again")
    assert [record.id for record in index.of_split("train_aug")] == voc.train_aug
    mask = records[voc.train_aug[0]].mask
    assert mask == voc.root / "SegmentationClassAug" / f"{voc.train_aug[0]}.png"


def test_test_images(voc: MiniVoc, tmp_path: Path):
    settings = in_place(
        voc,
        test_images=True,
        test={"address": str(voc.test), "checksum": ""},
        download={"folder": str(tmp_path / "data")},
    )
    index, records = prepared(settings, tmp_path / "out")
    assert [record.id for record in index.of_split("test")] == voc.test_ids
    assert records[voc.test_ids[0]].mask is None
    assert records[voc.test_ids[0]].labels == ()


def test_test_images_need_a_source():
    with pytest.raises(InputError, match=r"test\.address"):
        validate(Voc12DatasetSettings, {"kind": "voc12", "test_images": True}, "config.yaml")


def test_published_splits_add_up_to_10582():
    from workflow_scripts.datasets.kinds.voc12 import PUBLISHED

    assert PUBLISHED["train"] + PUBLISHED["train_aug"] == 10582
    assert (PUBLISHED["train"], PUBLISHED["val"]) == (1464, 1449)


def test_counts_are_told(voc: MiniVoc, tmp_path: Path, caplog: pytest.LogCaptureFixture):
    with caplog.at_level(logging.INFO):
        prepare(in_place(voc), tmp_path / "out", 1)
    assert "train_aug: 5 images (9118 as published)" in caplog.text


def test_labels_that_come_from_masks_are_told(
    voc: MiniVoc, tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    shutil.rmtree(voc.root / "Annotations")
    with caplog.at_level(logging.INFO):
        prepare(in_place(voc, augmented=False), tmp_path / "out", 1)
    every = len(voc.train) + len(voc.val)
    assert f"{every} of {every} images have no file in `Annotations`" in caplog.text


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


@pytest.mark.parametrize(
    ("part", "break_it", "processes"),
    [
        ("JPEGImages/{id}.jpg", truncate, 1),
        ("JPEGImages/{id}.jpg", truncate, 2),
        ("JPEGImages/{id}.jpg", Path.unlink, 1),
        ("SegmentationClass/{id}.png", Path.unlink, 1),
        ("SegmentationClass/{id}.png", truncate, 1),
        ("Annotations/{id}.xml", truncate, 1),
    ],
)
def test_damage_is_named_and_leaves_no_index(
    voc: MiniVoc, tmp_path: Path, part: str, break_it: Callable[[Path], None], processes: int
):
    path = voc.root / part.format(id=voc.train[2])
    break_it(path)
    with pytest.raises(InputError, match=str(path)):
        prepare(in_place(voc), tmp_path / "out", processes)
    assert not (tmp_path / "out" / "index.csv").exists()
    assert not (tmp_path / "out" / "masks").exists()


def test_unknown_object(voc: MiniVoc, tmp_path: Path):
    path = voc.root / "Annotations" / f"{voc.train[0]}.xml"
    path.write_text(path.read_text().replace("<object><name>", "<object><name>mega"))
    with pytest.raises(InputError, match="none of VOC's 20 classes"):
        prepare(in_place(voc), tmp_path / "out", 1)


def test_damaged_mat(voc: MiniVoc, tmp_path: Path):
    path = voc.sbd_root / "cls" / f"{voc.train_aug[0]}.mat"
    truncate(path)
    with pytest.raises(InputError, match=str(path)):
        prepare(in_place(voc), tmp_path / "out", 1)


@pytest.mark.parametrize("field", ["root", "sbd_root"])
def test_wrong_folder(voc: MiniVoc, tmp_path: Path, field: str):
    with pytest.raises(InputError, match=f"`{field}` must be"):
        prepare(in_place(voc, **{field: str(tmp_path)}), tmp_path / "out", 1)


def test_image_in_train_and_val(voc: MiniVoc, tmp_path: Path):
    path = voc.root / "ImageSets" / "Segmentation" / "val.txt"
    path.write_text(path.read_text() + voc.train[0] + "\n")
    with pytest.raises(InputError, match=f"{voc.train[0]}' is in train.txt and in val.txt"):
        prepare(in_place(voc), tmp_path / "out", 1)


def test_lists_name_an_image_once(tmp_path: Path):
    (tmp_path / "train.txt").write_text("a\nb\n\na\n")
    with pytest.raises(InputError, match="'a' is listed twice"):
        read_list(tmp_path / "train.txt")
