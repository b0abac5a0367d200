"""Labels for any images, from a trained model's folder."""

import csv
import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from tests.tiny_models import CLASSES, save_segmentation
from workflow_scripts.datasets.files import unique_names
from workflow_scripts.datasets.images import read_image, read_mask
from workflow_scripts.predict import areas, main, overlay
from workflow_scripts.refinement import dense_crf
from workflow_scripts.refinement.prediction import load_segmentation, predict
from workflow_scripts.settings.evaluation import EvaluateSegmentationSettings
from workflow_scripts.settings.refinement import CrfSettings
from workflow_scripts.storage.masks import voc_palette


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_segmentation(tmp_path_factory.mktemp("model") / "segmentation")


@pytest.fixture
def images(tmp_path: Path) -> Path:
    random = np.random.default_rng(0)
    folder = tmp_path / "photos"
    for name, size in (("a.jpg", (64, 48)), ("a.png", (33, 65)), ("deep er/ü.png", (40, 40))):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        pixels = random.integers(0, 256, (6, 6, 3), np.uint8)
        Image.fromarray(pixels).resize(size, Image.Resampling.BICUBIC).save(folder / name)
    return folder


def run(model: Path, images: Path, out: Path, *more: str) -> int:
    return main(["--model", str(model), "--images", str(images), "--out", str(out), *more])


def test_every_image_gets_mask_overlay_and_areas(model: Path, images: Path) -> None:
    out = images / "labelled"
    assert run(model, images, out, "--device", "cpu") == 0
    masks = {path.relative_to(out / "masks").as_posix() for path in (out / "masks").rglob("*.png")}
    assert masks == {"a.jpg.png", "a.png.png", "deep er/ü.png"}
    with (out / "areas.csv").open(encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    for name, mask_name in (("a.jpg", "a.jpg.png"), ("deep er/ü.png", "deep er/ü.png")):
        mask, image = read_mask(out / "masks" / mask_name), read_image(images / name)
        assert mask.shape == image.shape[:2]
        mine = [row for row in rows if row["image"] == name]
        assert sum(int(row["pixels"]) for row in mine) == mask.size
        assert {int(row["number"]) for row in mine} == set(np.unique(mask))
        assert {row["class"] for row in mine} <= {"background", *CLASSES}
    # What was written is not taken for images the next time.
    assert run(model, images, out) == 0
    assert len(list((out / "masks").rglob("*.png"))) == 3


def test_a_broken_image_is_skipped_and_counted(
    model: Path, images: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    (images / "b.jpg").write_bytes((images / "a.jpg").read_bytes()[:200])
    assert run(model, images, tmp_path / "out", "--no-overlays") == 2
    message = capsys.readouterr().err
    assert "1 of 4 images could not be read" in message
    assert "b.jpg" in message
    assert "Traceback" not in message
    assert len(list((tmp_path / "out/masks").rglob("*.png"))) == 3
    assert not (tmp_path / "out/overlays").exists()
    assert (tmp_path / "out/areas.csv").exists()


def test_the_crf_runs_outside_the_networks_arithmetic(
    images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its masks follow from the probabilities alone, in float32, whatever the network computes in."""
    half = save_segmentation(tmp_path / "half", precision="bfloat16")
    weights, cpu = half / "model.safetensors", torch.device("cpu")
    seen: list[tuple[bool, np.ndarray, np.ndarray]] = []
    refine = dense_crf.refine

    def watched(image: np.ndarray, unary: np.ndarray, settings: CrfSettings) -> np.ndarray:
        marginals = refine(image, unary, settings)
        seen.append((torch.is_autocast_enabled("cpu"), unary, marginals))
        return marginals

    monkeypatch.setattr(dense_crf, "refine", watched)
    settings = EvaluateSegmentationSettings(refine=True)
    image = read_image(images / "a.jpg")
    network, _ = load_segmentation(weights, cpu)
    expected = predict(network, image, settings, cpu, torch.bfloat16)
    flags = ("--refine", "--no-overlays", "--threads", "2", "--device", "cpu")
    assert run(half, images, tmp_path / "out", *flags) == 0
    np.testing.assert_array_equal(read_mask(tmp_path / "out/masks/a.jpg.png"), expected)
    assert len(seen) == 4
    for in_autocast, unary, marginals in seen:
        assert not in_autocast
        assert unary.dtype == marginals.dtype == np.float32
    with torch.autocast("cpu", torch.bfloat16):
        again = predict(network, image, settings, cpu, torch.bfloat16)
    np.testing.assert_array_equal(again, expected)


def test_bad_folders_and_other_versions(
    model: Path, images: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    assert run(tmp_path / "nowhere", images, tmp_path / "o") == 2
    assert "no such file. Give the folder of a trained segmentation" in capsys.readouterr().err
    assert run(model, tmp_path / "nowhere", tmp_path / "o") == 2
    assert "no such folder of images" in capsys.readouterr().err
    (tmp_path / "empty").mkdir()
    assert run(model, tmp_path / "empty", tmp_path / "o") == 2
    assert "holds no image" in capsys.readouterr().err
    other = save_segmentation(tmp_path / "other", version=2)
    assert run(other, images, tmp_path / "o") == 2
    assert "a model of format 2, this version of the workflow reads format 1" in (
        capsys.readouterr().err
    )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"classes": ["cat", "dog"]}, "does not fit the network that its description names"),
        ({"dilations": None}, "does not fit the network that its description names"),
        ({"backbone": {"name": "efficientnet_lite0", "depth": 3}}, "of another version"),
    ],
)
def test_descriptions_that_do_not_fit(
    images: Path, tmp_path: Path, capsys: pytest.CaptureFixture, change: dict, message: str
) -> None:
    odd = save_segmentation(tmp_path / "odd", **change)
    assert run(odd, images, tmp_path / "o") == 2
    said = capsys.readouterr().err
    assert message in said
    assert "Traceback" not in said
    assert not (tmp_path / "o/masks").exists()


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--device", "tpu"), "expected auto, cpu or cuda"),
        (("--scales", "1", "0"), "greater than 0"),
        (("--out", "photos/a.jpg"), "a.jpg: a file of that name exists"),
    ],
)
def test_bad_values(
    model: Path, images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture, flags: tuple[str, ...], message: str,
) -> None:  # fmt: skip
    monkeypatch.chdir(images.parent)
    assert run(model, images, tmp_path / "o", *flags) == 2
    said = capsys.readouterr().err
    assert message in said
    assert "Traceback" not in said


def test_names_keep_a_shared_suffix() -> None:
    names = ["a.jpg", "a.png", "d/a.jpg", "b.c.png"]
    assert unique_names(names) == ["a.jpg", "a.png", "d/a", "b.c"]


def test_areas_and_overlay_by_hand(tmp_path: Path) -> None:
    mask = np.array([[0, 2], [2, 2]], np.uint8).repeat(8, 0).repeat(8, 1)
    assert areas("x", mask, CLASSES) == [
        {"image": "x", "class": "background", "number": 0, "pixels": 64, "share": 0.25},
        {"image": "x", "class": "dog", "number": 2, "pixels": 192, "share": 0.75},
    ]
    (tmp_path / "o.jpg").write_bytes(overlay(np.full((16, 16, 3), 100, np.uint8), mask))
    shown = read_image(tmp_path / "o.jpg").astype(int)
    expected = (100 + voc_palette()[2].astype(int)) / 2
    assert abs(shown[12, 12] - expected).max() < 20
    assert abs(shown[3, 3] - 100).max() < 20


def test_figures_beside_the_weights_are_shown(
    images: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    model = save_segmentation(tmp_path / "m")
    (model / "figures.json").write_text(json.dumps({"splits": {"val": {"miou": 51.25}}}))
    assert run(model, images, tmp_path / "out", "--flip", "--scales", "1", "0.5") == 0
    assert "its mIoU on val: 51.2" in capsys.readouterr().err


def names_of(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def test_every_image_has_results_of_its_own(model: Path, tmp_path: Path) -> None:
    names = ["a.jpg", "a.png", "a.jpg.png", "A.bmp", "sub/a.jpg", f"{'n' * 236}.jpg", "猫.jpg"]
    for number, name in enumerate(names):
        path = tmp_path / "photos" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (32 + number, 32)).save(path)
    out = tmp_path / "out"
    assert run(model, tmp_path / "photos", out) == 0
    masks = [path for path in (out / "masks").rglob("*") if path.is_file()]
    assert {Image.open(path).width for path in masks} == {32 + n for n in range(len(names))}
    assert len(names_of(out / "overlays")) == len(masks) == len(names)


def test_no_result_outlives_its_image(model: Path, images: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert run(model, images, out) == 0
    (images / "a.png").unlink()
    (images / "deep er/ü.png").write_bytes(b"no image any more")
    (out / "masks/mine.png").write_bytes(b"somebody else's")
    assert run(model, images, out) == 2
    assert names_of(out) == {
        "areas.csv", "predict.json", "masks/a.png", "masks/mine.png", "overlays/a.jpg",
    }  # fmt: skip


def test_masks_of_others_are_not_overwritten(
    model: Path, images: Path, capsys: pytest.CaptureFixture
) -> None:
    """`--images data/images --out data` would write over the ground truth in `data/masks`."""
    truth = images.parent / "masks/a.png.png"
    truth.parent.mkdir()
    truth.write_bytes(b"drawn by hand")
    assert run(model, images, images.parent) == 2
    assert "would be overwritten that no earlier predict has written" in capsys.readouterr().err
    assert truth.read_bytes() == b"drawn by hand"
    assert names_of(images.parent / "masks") == {"a.png.png"}


def test_names_that_are_no_utf8_are_skipped_by_name(
    model: Path, images: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    Path(os.fsdecode(bytes(images) + b"/caf\xe9.jpg")).write_bytes(b"x")
    assert run(model, images, tmp_path / "out") == 2
    assert "caf\\udce9.jpg" in capsys.readouterr().err
    assert len(names_of(tmp_path / "out/masks")) == 3
