"""Labels of images that nobody has looked at, by a run's classifier."""

import csv
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from tests.tiny_backbone import TinyBackbone
from tests.tiny_models import BACKBONE, CLASSES, describe, save_run
from workflow_scripts.datasets.images import read_image
from workflow_scripts.datasets.table import read_table
from workflow_scripts.errors import InputError
from workflow_scripts.methods.recam import Recam
from workflow_scripts.models.classification import CamNetwork
from workflow_scripts.models.feature_maps import load_backbone
from workflow_scripts.planning.configuration import configuration_of_run, read_configuration
from workflow_scripts.predict_labels import ImageClassifier, classifying, labels_of, main
from workflow_scripts.settings.evaluation import PredictLabelsSettings
from workflow_scripts.storage.networks import load_network, save_network


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = save_run(tmp_path_factory.mktemp("results") / "demo")
    # Its probabilities are all 1, which many wrong ways lead to.
    network = CamNetwork(load_backbone(BACKBONE), len(CLASSES))
    torch.nn.init.normal_(network.classifier.weight, std=0.1)
    save_network(folder / "0/cam/model.safetensors", network, describe("cam"))
    return folder


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
        assert np.ptp(expected) > 0.05
        told = [float(row[f"probability of {one}"]) for one in CLASSES]
        np.testing.assert_allclose(told, expected, atol=1e-3)


def test_label_reads_the_table(finished: Path, images: Path, tmp_path: Path):
    """AMN does not classify images: its seeds' classifier speaks."""
    table = tmp_path / "labels.csv"
    assert run(finished, images, table, "--method", "amn", "--probability", "0.01") == 0
    read = read_table(table)
    assert [row.image for row in read] == ["a.png", "far/b.png"]
    assert all(set(row.labels) <= set(CLASSES) and row.labels for row in read)


METHODS = {
    "dataset": {"kind": "demo"},
    "methods": ["cam", "vit_cam", "recam", "clip_cam", "on_recam", "on_theirs", "amn_on_clip_cam", "theirs"],
    "variants": {
        "other_cam": {"method": "cam"},
        "on_recam": {"method": "amn", "seeds_from": "recam"},
        "on_theirs": {"seeds_from": "theirs"},
        "amn_on_clip_cam": {"seeds_from": "clip_cam"},
        "amn_on_other": {"seeds_from": "other_cam"},
    },
    "imports": {"theirs": {"activations": "somewhere"}},
}  # fmt: skip


@pytest.mark.parametrize(
    ("method", "expected"),
    [
        ("cam", "cam"),
        ("vit_cam", "vit_cam"),
        ("recam", "recam"),
        ("on_recam", "recam"),
        ("amn_on_other", "other_cam"),
    ],
)
def test_the_classifier_is_the_nearest_that_a_method_rests_on(method, expected):
    assert classifying(read_configuration(METHODS, "test"), method) == expected


@pytest.mark.parametrize("method", ["clip_cam", "amn_on_clip_cam", "theirs", "on_theirs"])
def test_what_rests_on_no_classifier_is_told_which_does(method):
    settings = read_configuration(METHODS, "test")
    with pytest.raises(
        InputError, match=f"--method {method}: .* give --method cam or vit_cam or recam or on_recam"
    ):
        classifying(settings, method)
    alone = read_configuration(METHODS | {"methods": ["clip_cam"], "variants": {}}, "test")
    with pytest.raises(InputError, match="give a run of `cam`"):
        classifying(alone, "clip_cam")


def test_the_first_of_both_classifiers_of_recam_speaks():
    torch.manual_seed(0)
    network = Recam(Recam.Train()).build(TinyBackbone(), 3).eval()
    images = torch.rand(2, 3, 32, 32)
    expected = CamNetwork(network.backbone, 3)
    expected.classifier = network.classifier
    found = Recam(Recam.Train()).image_logits(network, images)
    torch.testing.assert_close(found, expected.eval()(images))


def test_logits_of_all_scales_weigh_alike(finished: Path):
    settings = configuration_of_run(finished)
    classifier = ImageClassifier(finished, settings, 0, "cam", torch.device("cpu"))
    image = np.random.default_rng(0).integers(0, 256, (49, 66, 3), np.uint8)

    def logits(*scales: float) -> np.ndarray:
        found = classifier.probabilities(image, scales)
        return np.log(found / (1 - found))

    one, two = logits(1.0), logits(2.0)
    assert np.abs(one - two).max() > 0.05
    np.testing.assert_allclose(logits(1.0, 2.0), (one + two) / 2, atol=1e-3)


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
    whole = save_run(tmp_path / "whole", methods=["full"])
    assert run(whole, images, tmp_path / "l.csv") == 2
    assert "the run has no method but `full`" in capsys.readouterr().err
    (images / "broken.jpg").write_bytes(b"no image")
    Image.new("RGB", (9, 9)).save(images / "cut.jpg")
    (images / "cut.jpg").write_bytes((images / "cut.jpg").read_bytes()[:-100])
    assert run(finished, images, tmp_path / "l.csv") == 2
    assert "could not be read and have no row" in capsys.readouterr().err
    assert set(rows(tmp_path / "l.csv")) == {"a.png", "far/b.png"}
