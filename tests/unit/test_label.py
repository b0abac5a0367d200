"""Pseudo-masks for new images, and the layouts they are written in."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from pycocotools.coco import COCO

from tests.tiny_models import CLASSES, save_run
from workflow_scripts.datasets.annotation_export import AnnotationWriter
from workflow_scripts.datasets.images import read_image, read_mask
from workflow_scripts.label import main
from workflow_scripts.planning.configuration import configuration_of_run
from workflow_scripts.refinement.labeller import Labeller


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_run(tmp_path_factory.mktemp("results") / "demo")


@pytest.fixture
def images(tmp_path: Path) -> Path:
    random = np.random.default_rng(0)
    folder = tmp_path / "photos"
    folder.mkdir()
    for name in ("a.jpg", "b.png", "none.jpg"):
        pixels = random.integers(0, 256, (5, 5, 3), np.uint8)
        Image.fromarray(pixels).resize((66, 49), Image.Resampling.BICUBIC).save(folder / name)
    (tmp_path / "labels.csv").write_text("image,labels\na.jpg,dog;cat\nb.png,bird\nnone.jpg,\n")
    return folder


def run(finished: Path, images: Path, out: Path, *more: str) -> int:
    table = images.parent / "labels.csv"
    return main(
        ["--run", str(finished), "--images", str(images), "--labels", str(table),
         "--out", str(out), *more]
    )  # fmt: skip


@pytest.mark.parametrize("method", ["amn", "cam"])
def test_masks_in_both_layouts_are_the_same(
    finished: Path, images: Path, tmp_path: Path, method: str
) -> None:
    out = tmp_path / "out"
    assert run(finished, images, out, "--method", method, "--device", "cpu") == 0
    ids = (out / "ImageSets/Segmentation/pseudo.txt").read_text().split()
    assert ids == ["a", "b", "none"]
    assert (out / "labels.txt").read_text().split() == ["__background__", *CLASSES]
    assert (out / "JPEGImages/a.jpg").read_bytes() == (images / "a.jpg").read_bytes()
    coco = COCO(str(out / "annotations.json"))
    allowed = {"a": {0, 1, 2}, "b": {0, 3}, "none": {0}}
    for number, image_id in enumerate(ids, start=1):
        mask = read_mask(out / "SegmentationClass" / f"{image_id}.png")
        assert mask.shape == (49, 66)
        assert set(np.unique(mask)) <= allowed[image_id]
        decoded = np.zeros_like(mask)
        for annotation in coco.loadAnns(coco.getAnnIds(number)):
            region = coco.annToMask(annotation) > 0
            decoded[region] = annotation["category_id"]
            assert annotation["area"] == region.sum()
        assert (decoded == mask).all()
    assert [coco.imgs[i]["file_name"] for i in (1, 2)] == ["a.jpg", "b.png"]


def test_a_higher_threshold_leaves_less_foreground(finished: Path, images: Path) -> None:
    image = read_image(images / "a.jpg")
    settings, device = configuration_of_run(finished), torch.device("cpu")
    areas = [
        (Labeller(finished, settings, 0, "cam", t, device).mask(image, [1, 2]) > 0).sum()
        for t in (0.2, 0.8)
    ]
    assert areas[0] > areas[1]


def test_writer_marks_and_turns(tmp_path: Path) -> None:
    """Any disjoint classes come back; an image turned by EXIF is written upright."""
    random = np.random.default_rng(0)
    mask = random.integers(0, 4, (20, 31)).astype(np.uint8)
    turned = Image.fromarray(random.integers(0, 256, (31, 20, 3), np.uint8))
    exif = turned.getexif()
    exif[0x0112] = 6
    turned.save(tmp_path / "t.jpg", exif=exif)
    writer = AnnotationWriter(tmp_path / "out", CLASSES, ["t"])
    image = read_image(tmp_path / "t.jpg")
    assert image.shape[:2] == mask.shape
    writer.write("t", "sub/t.jpg", tmp_path / "t.jpg", image, mask)
    writer.finish()
    assert Image.open(tmp_path / "out/JPEGImages/t.jpg").size == (31, 20)
    content = json.loads((tmp_path / "out/annotations.json").read_text())
    assert [c["name"] for c in content["categories"]] == list(CLASSES)
    coco = COCO(str(tmp_path / "out/annotations.json"))
    decoded = sum(a["category_id"] * coco.annToMask(a) for a in coco.loadAnns(coco.getAnnIds()))
    assert (decoded == mask).all()


def test_mistakes_are_named(
    finished: Path, images: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    def error(*more: str, of: Path = finished) -> str:
        capsys.readouterr()
        assert run(of, images, tmp_path / "o", *more) == 2
        message = capsys.readouterr().err
        assert "Traceback" not in message
        return message

    assert "no such folder; give the folder of a run" in error(of=tmp_path / "nowhere")
    (tmp_path / "bare").mkdir()
    assert "Finish the run" in error(of=tmp_path / "bare")
    assert "the run has cam, amn; name one of these" in error("--method", "amnesia")
    assert "train the network first" in error("--trial", "3")
    table = tmp_path / "labels.csv"
    table.write_text("image,labels\na.jpg,dgo\n")
    assert "did you mean 'dog'?" in error()
    table.write_text("image,labels\nz.jpg,dog\n")
    assert "no image 'z.jpg'" in error()
    table.write_text("image,labels\na.jpg,dog\nbad.jpg,cat\n")
    (images / "bad.jpg").write_bytes(b"no image")
    assert "1 of 2 images could not be read" in error()
    assert (tmp_path / "o/SegmentationClass/a.png").exists()


def test_other_class_counts_and_versions(
    images: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    broken = save_run(tmp_path / "other")
    (broken / "dataset/classes.csv").write_text("name\ncat\ndog\n")
    assert run(broken, images, tmp_path / "o") == 2
    assert "was trained on 3 classes, the dataset has 2" in capsys.readouterr().err
    (broken / "config.yaml").write_text("thresholds: [0.5]\n")
    assert run(broken, images, tmp_path / "o") == 2
    assert "written by another version of the workflow" in capsys.readouterr().err


def test_the_first_images_to_look_at_alone(
    finished: Path, images: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    """In the order that judge offers, of several sets in that of the first."""
    order = tmp_path / "images.csv"
    rows = ["mine,a.jpg,3", "mine,b.png,1", "mine,none.jpg,2", "other,a.jpg,1"]
    order.write_text("set,image,look\n" + "\n".join(rows) + "\n")
    more = ["--device", "cpu", "--order", str(order), "--first", "2"]
    assert run(finished, images, tmp_path / "out", *more) == 0
    ids = (tmp_path / "out/ImageSets/Segmentation/pseudo.txt").read_text().split()
    assert ids == ["b", "none"]
    # What an earlier run labelled beside these is not removed.
    more[-1] = "1"
    kept = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*.*")}
    assert run(finished, images, tmp_path / "out", *more) == 2
    assert (
        "for instance JPEGImages/none.jpg, which a run of some images would remove"
        in capsys.readouterr().err
    )
    assert kept == {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*.*")}
    # A run's own table names images by their ids.
    order.write_text("set,image,look\nmine,a,2\nmine,b,3\nmine,none,1\n")
    assert run(finished, images, tmp_path / "by_id", *more[:-1], "3") == 0
    ids = (tmp_path / "by_id/ImageSets/Segmentation/pseudo.txt").read_text().split()
    assert ids == ["none", "a", "b"]
    # A list of some images, as the gallery saves it, is for these alone.
    order.write_text("set,image,look,gain\nmine,none.jpg,1,0.5\nmine,a.jpg,7,0.1\n")
    assert run(finished, images, tmp_path / "some", *more[:-2]) == 0
    assert "1 of 3 images are not in it, and left out" in capsys.readouterr().err
    ids = (tmp_path / "some/ImageSets/Segmentation/pseudo.txt").read_text().split()
    assert ids == ["none", "a"]
    # Such a list removes nothing either, by itself.
    order.write_text("set,image,look,gain\nmine,a.jpg,7,0.1\n")
    assert run(finished, images, tmp_path / "some", *more[:-2]) == 2
    assert "none.jpg, which a run of some images would remove" in capsys.readouterr().err
    order.write_text("set,image,look\nmine,elsewhere.jpg,1\n")
    assert run(finished, images, tmp_path / "out", *more) == 2
    assert "images.csv: names none of the 3 images" in capsys.readouterr().err
    order.write_text("image\na.jpg\n")
    assert run(finished, images, tmp_path / "out", *more) == 2
    assert "not the table of images that judge writes" in capsys.readouterr().err
