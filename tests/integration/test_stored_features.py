"""The recipe of a frozen transformer, whole and tiny: features once, then everything on them."""

import json
import shutil
from pathlib import Path

import pytest
from safetensors import safe_open

from tests.integration.conftest import copy_checkout
from tests.miniatures import build_folder

TRAINING = {"epochs": 2, "batch_size": 4, "features": {"side": 64}}
BACKBONE = {"name": "tiny_vit", "frozen_blocks": "all"}


@pytest.fixture(scope="module")
def checkout(tmp_path_factory):
    """A checkout in which the recipe has run on a folder of tiny images."""
    made = copy_checkout(tmp_path_factory.mktemp("frozen"), "config/folder_dinov2.yaml")
    shutil.copy(Path(__file__).with_name("tiny_vit.py"), made.folder)
    dataset = build_folder(tmp_path_factory.mktemp("dataset") / "photos", classes=3)
    made.write(
        {
            "run": "tiny",
            "plugins": ["tiny_vit.py"],
            "dataset": {"kind": "folder", "root": str(dataset.root)},
            "threads": {"vit_cam": 1, "amn": 1, "segmentation": 1, "inference": 1, "refinement": 1},
            "train_vit_cam": {"backbone": BACKBONE, "training": TRAINING},
            "train_amn": {"backbone": BACKBONE, "training": TRAINING},
            "train_segmentation": {"backbone": BACKBONE, "width": 8, "training": TRAINING},
            "sweep": {"refined_thresholds": []},
            "pseudo_masks": {"refinement": "none"},
            "summary": {"bootstrap_draws": 20},
        }
    )
    made.snakemake("all")
    return made


def test_features_are_computed_once_and_everything_is_made_of_them(checkout):
    run = checkout.folder / "results/tiny"
    (folder,) = (run / "features").iterdir()
    assert [path.name for path in folder.iterdir()] == ["train-00.safetensors"]
    summary = json.loads((run / "summary.json").read_text())
    for method in ("vit_cam", "amn_on_vit_cam"):
        assert set(summary["methods"][method]["activations"]) == {"train", "val"}
        assert "val" in summary["methods"][method]["segmentation"]
    networks = [
        *run.glob("0/*/model.safetensors"),
        *run.glob("0/*/auto/segmentation/model.safetensors"),
    ]
    assert len(networks) == 4
    frozen = []
    for network in networks:
        with safe_open(network, "pt") as tensors:
            frozen.append(tensors.get_tensor("backbone.network.blocks.0.attn.qkv.weight"))
    assert all(one.equal(frozen[0]) for one in frozen)
    assert checkout.planned() == set()


def test_other_views_or_another_network_make_them_anew(checkout):
    text = (checkout.folder / "tiny.yaml").read_text()
    try:
        (checkout.folder / "tiny.yaml").write_text(text.replace("side: 64", "side: 48"))
        anew = {"cache_features", "train vit_cam", "train amn_on_vit_cam", "train_segmentation"}
        assert anew <= checkout.planned()
        plugin = checkout.folder / "tiny_vit.py"
        (checkout.folder / "tiny.yaml").write_text(text)
        plugin.write_text(plugin.read_text().replace("manual_seed(0)", "manual_seed(1)"))
        assert anew <= checkout.planned()
    finally:
        (checkout.folder / "tiny.yaml").write_text(text)
