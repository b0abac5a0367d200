"""Labels of images that nobody has looked at, by a run's classifier."""

import csv
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from tests.tiny_models import BACKBONE, CLASSES, save_run
from workflow_scripts.datasets.images import read_image
from workflow_scripts.datasets.table import read_table
from workflow_scripts.models.classification import CamNetwork
from workflow_scripts.models.feature_maps import load_backbone
from workflow_scripts.predict_labels import labels_of, main
from workflow_scripts.settings.evaluation import PredictLabelsSettings
from workflow_scripts.storage.networks import load_network


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_run(tmp_path_factory.mktemp("results") / "demo")


@pytest.fixture
def images(tmp_path: Path) -> Path:
    random = np.random.default_rng(0)
    folder = tmp_path / "photos"
    (folder / "far").mkdir(parents=True)
    for name in ("a.png", "far/b.png"):
        pixels = random.integers(0, 256, (5, 5, 3), np.uint8)
        Image.fromarray(pixels).resize((66, 49), Image.Resampling.BICUBIC).save(folder / name)
    return folder


def run(finished: Path, images: Path, out: Path, *more: str) -> int:
    return main(
        ["--run", str(finished), "--images", str(images), "--out", str(out), "--device", "cpu", *more]
    )  # fmt: skip


def rows(table: Path) -> dict[str, dict[str, str]]:
    with table.open(encoding="utf-8", newline="") as stream:
        return {row["image"]: row for row in csv.DictReader(stream)}


def test_probabilities_are_those_of_the_classifier(finished: Path, images: Path, tmp_path: Path):
    assert run(finished, images, tmp_path / "labels.csv") == 0
    network = CamNetwork(load_backbone(BACKBONE), len(CLASSES)).eval()
    load_network(finished / "0/cam/model.safetensors", network)
    found = rows(tmp_path / "labels.csv")
    assert set(found) == {"a.png", "far/b.png"}
    for name, row in found.items():
        pixels = read_image(images / name).astype(np.float32) / 255
        mean, std = np.array(network.backbone.mean), np.array(network.backbone.std)
        view = torch.from_numpy(((pixels - mean) / std).astype(np.float32)).permute(2, 0, 1)[None]
        with torch.no_grad():
            logits = (network(view) + network(view.flip(-1))) / 2
        expected = torch.sigmoid(logits)[0].numpy()
        told = [float(row[f"probability of {one}"]) for one in CLASSES]
        np.testing.assert_allclose(told, expected, atol=1e-3)


def test_label_reads_the_table(finished: Path, images: Path, tmp_path: Path):
    """AMN does not classify images: its seeds' classifier speaks."""
    table = tmp_path / "labels.csv"
    assert run(finished, images, table, "--method", "amn", "--probability", "0.01") == 0
    read = read_table(table)
    assert [row.image for row in read] == ["a.png", "far/b.png"]
    assert all(set(row.labels) <= set(CLASSES) and row.labels for row in read)


@pytest.mark.parametrize(
    ("probabilities", "given", "expected"),
    [
        ([0.2, 0.9, 0.5], {}, (2, 3)),
        ([0.2, 0.4, 0.1], {}, (2,)),
        ([0.2, 0.4, 0.1], {"at_least_one": False}, ()),
        ([0.2, 0.4, 0.1], {"probability": 0.15}, (1, 2)),
    ],
)
def test_what_an_image_shows(probabilities, given, expected):
    assert labels_of(np.array(probabilities), PredictLabelsSettings(**given)) == expected


def test_mistakes_are_named(
    finished: Path, images: Path, tmp_path: Path, capsys: pytest.CaptureFixture
):
    assert run(finished, images, tmp_path / "l.csv", "--method", "amnesia") == 2
    assert "the run has cam, amn; name one of these" in capsys.readouterr().err
    (images / "broken.jpg").write_bytes(b"no image")
    Image.new("RGB", (9, 9)).save(images / "cut.jpg")
    (images / "cut.jpg").write_bytes((images / "cut.jpg").read_bytes()[:-100])
    assert run(finished, images, tmp_path / "l.csv") == 2
    assert "could not be read and have no row" in capsys.readouterr().err
    assert set(rows(tmp_path / "l.csv")) == {"a.png", "far/b.png"}
