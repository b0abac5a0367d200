"""The paper's recipe for VOC 2012 on a miniature devkit that is fetched from loopback."""

import csv
import json
import tarfile
from collections import Counter

import pytest

from tests.integration.conftest import copy_checkout
from tests.loopback import Loopback
from tests.miniatures import build_voc
from tests.random_resnets import weights_of_all_stages
from workflow_scripts.storage.activations import ActivationReader

TEST_ARCHIVE = "results/miniature/0/amn/t0.25/segmentation/voc_test.tar.gz"


@pytest.fixture(scope="module")
def voc(tmp_path_factory):
    """A checkout in which the whole recipe, and the archive for the test server, have been made."""
    folder = tmp_path_factory.mktemp("voc")
    devkit = build_voc(folder / "devkit")
    checkout = copy_checkout(folder, "config/voc12.yaml", "config/miniature.yaml")
    with Loopback(devkit.files()) as server:
        dataset = devkit.settings(server, folder / "data")
        dataset |= {"test_images": True, "test": {"address": str(devkit.test), "checksum": ""}}
        checkout.write({"dataset": dataset, **weights_of_all_stages(folder)})
        checkout.snakemake("all", TEST_ARCHIVE)
    yield checkout, devkit
    for path in folder.rglob("*.safetensors"):
        path.unlink()


def test_splits_are_those_of_the_archives(voc):
    checkout, devkit = voc
    with (checkout.folder / "results/miniature/dataset/index.csv").open() as stream:
        splits = Counter(row["split"] for row in csv.DictReader(stream))
    assert splits == {
        "train": len(devkit.train),
        "val": len(devkit.val),
        "train_aug": len(devkit.train_aug),
        "test": len(devkit.test_ids),
    }


def test_summary_evaluates_seeds_on_train_and_segmentation_on_val(voc):
    checkout, _ = voc
    summary = json.loads((checkout.folder / "results/miniature/summary.json").read_text())
    assert len(summary["classes"]) == 20
    for method in ("cam", "amn"):
        figures = summary["methods"][method]
        assert figures["activations"].keys() == {"train"}
        assert figures["seeds"].keys() == {"train"}
        assert figures["pseudo_masks"]["train"]["threshold"]["mean"] == 0.25
        assert figures["segmentation"].keys() == {"val"}
    assert {"train_boundary", "propagate"} <= set(summary["seconds"])


def test_networks_learn_from_train_aug_with_propagated_masks(voc):
    checkout, devkit = voc
    run = checkout.folder / "results/miniature/0/amn"
    with ActivationReader(run / "propagated/train_aug-00.safetensors") as reader:
        assert list(reader.ids) == devkit.train_aug
    description = json.loads((run / "t0.25/segmentation/model.json").read_text())
    assert description["backbone"]["name"] == "resnet101"
    assert description["supervision"] == "image labels"
    assert description["initialisation"].endswith("resnet101.safetensors")


def test_archive_for_the_test_server(voc):
    checkout, devkit = voc
    with tarfile.open(checkout.folder / TEST_ARCHIVE) as archive:
        names = archive.getnames()
    folder = "results/VOC2012/Segmentation/comp6_test_cls"
    assert names == [f"{folder}/{image}.png" for image in devkit.test_ids]
