"""The paper's recipe for COCO 2014 on miniature archives that are fetched from loopback."""

import json

import numpy as np
import pytest

from tests.integration.conftest import copy_checkout
from tests.loopback import Loopback
from tests.miniatures import build_coco
from tests.random_resnets import weights_of_all_stages
from workflow_scripts.datasets.index import read_index
from workflow_scripts.storage.masks import MaskReader


@pytest.fixture(scope="module")
def coco(tmp_path_factory):
    """A checkout in which the whole recipe has run, in two shards a split."""
    folder = tmp_path_factory.mktemp("coco")
    miniature = build_coco(folder / "archives")
    checkout = copy_checkout(folder, "config/coco14.yaml", "config/miniature.yaml")
    with Loopback(miniature.files()) as server:
        dataset = miniature.settings(server, folder / "data")
        checkout.write({"dataset": dataset, "methods": ["amn"], **weights_of_all_stages(folder)})
        checkout.snakemake("all")
    yield checkout.folder / "results/miniature"
    for path in folder.rglob("*.safetensors"):
        path.unlink()


def test_summary_has_80_classes_and_the_published_threshold(coco):
    summary = json.loads((coco / "summary.json").read_text())
    assert len(summary["classes"]) == 80
    assert summary["images"] == {"train": 8, "val": 4}
    figures = summary["methods"]["amn"]
    assert figures["pseudo_masks"]["train"]["threshold"]["mean"] == 0.22
    assert figures["segmentation"].keys() == {"val"}


def test_an_image_without_objects_is_background(coco):
    empty = [r for r in read_index(coco / "dataset/index.csv").of_split("train") if not r.labels]
    assert len(empty) == 1
    for shard in ("seeds", "t0.22/pseudo_masks"):
        with MaskReader(coco / f"0/amn/{shard}/train-00.zip") as masks:
            assert not np.any(masks.read(empty[0].id))
