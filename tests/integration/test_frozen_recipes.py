"""The recipes of frozen transformers, whole and tiny: features once, then everything on them."""

import json
import shutil
from pathlib import Path
from typing import Any

import open_clip
import pytest
import torch
import yaml
from safetensors import safe_open
from safetensors.torch import save_file

from tests.integration import tiny_clip
from tests.integration.conftest import Checkout, copy_checkout
from tests.loopback import Loopback
from tests.miniatures import build_coco, build_folder, build_voc
from workflow_scripts.settings.base import merge
from workflow_scripts.storage.chosen_thresholds import read_thresholds

VIT = {"name": "tiny_vit", "frozen_blocks": "all"}


def build_recipe(folder: Path, name: str) -> Checkout:
    """A checkout in which a recipe, with the miniature over it, can run on random weights."""
    folder.mkdir(exist_ok=True)
    shutil.copy(Path(__file__).with_name("tiny_vit.py"), folder)
    return copy_checkout(folder, f"config/{name}.yaml", "config/miniature.yaml")


def configure(made: Checkout, backbone: dict[str, Any], **more: Any) -> None:
    """Write `tiny.yaml`: the recipe's networks on another backbone."""
    on_it = {"backbone": backbone}
    sections = {"train_amn": on_it, "train_segmentation": {**on_it, "width": 8}}
    if "train_clip_cam" not in more:
        sections["train_vit_cam"] = on_it
    made.write({"run": "tiny", **sections, **more})


def check_run(run: Path, methods: list[str]) -> None:
    """See that all of a recipe is there, and by which thresholds."""
    summary = json.loads((run / "summary.json").read_text())
    assert list(summary["methods"]) == methods
    for method in methods:
        assert "train" in summary["methods"][method]["activations"]
        assert "val" in summary["methods"][method]["segmentation"]
        assert 0 < read_thresholds(run / f"0/{method}/auto/thresholds.json").pseudo_mask < 1
    assert len(list((run / "features").iterdir())) == 1
    assert (run / "report.html").is_file()


@pytest.fixture(scope="module")
def folder_run(tmp_path_factory):
    """A checkout in which the recipe has run on a folder of tiny images."""
    made = build_recipe(tmp_path_factory.mktemp("frozen"), "folder_dinov2")
    photos = build_folder(tmp_path_factory.mktemp("dataset") / "photos", classes=3)
    dataset = {"kind": "folder", "root": str(photos.root)}
    configure(made, VIT, dataset=dataset, plugins=["tiny_vit.py"])
    made.snakemake("all")
    return made


def test_features_are_computed_once_and_everything_is_made_of_them(folder_run):
    run = folder_run.folder / "results/tiny"
    check_run(run, ["vit_cam", "amn_on_vit_cam"])
    for figures in json.loads((run / "summary.json").read_text())["methods"].values():
        assert set(figures["activations"]) == {"train", "val"}
    (folder,) = (run / "features").iterdir()
    assert [path.name for path in folder.iterdir()] == ["train-00.safetensors"]
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
    assert folder_run.planned() == set()


def test_other_views_or_another_network_make_them_anew(folder_run):
    text = (folder_run.folder / "tiny.yaml").read_text()
    written = yaml.safe_load(text)
    networks = ("train_vit_cam", "train_amn", "train_segmentation")
    larger = {name: {"training": {"features": {"side": 80}}} for name in networks}
    plugin = folder_run.folder / "tiny_vit.py"
    code = plugin.read_text()
    try:
        folder_run.write(merge(written, larger))
        anew = {"cache_features", "train vit_cam", "train amn_on_vit_cam", "train_segmentation"}
        assert anew <= folder_run.planned()
        (folder_run.folder / "tiny.yaml").write_text(text)
        plugin.write_text(code.replace("manual_seed(0)", "manual_seed(1)"))
        assert anew <= folder_run.planned()
    finally:
        plugin.write_text(code)
        (folder_run.folder / "tiny.yaml").write_text(text)


def test_voc_with_a_frozen_transformer(tmp_path):
    made = build_recipe(tmp_path / "checkout", "voc12_dinov2")
    voc = build_voc(tmp_path / "archives")
    with Loopback(voc.files()) as server:
        dataset = {**voc.settings(server, tmp_path / "data"), "augmented": True}
        configure(made, VIT, dataset=dataset, plugins=["tiny_vit.py"])
        made.snakemake("all")
    check_run(made.folder / "results/tiny", ["vit_cam", "amn_on_vit_cam"])


def test_coco_with_a_frozen_transformer(tmp_path):
    made = build_recipe(tmp_path / "checkout", "coco14_dinov2")
    coco = build_coco(tmp_path / "archives")
    dataset = {"kind": "coco14", "root": str(coco.root)}
    configure(made, VIT, dataset=dataset, plugins=["tiny_vit.py"])
    made.snakemake("all")
    check_run(made.folder / "results/tiny", ["vit_cam", "amn_on_vit_cam"])


def test_voc_with_a_clip_that_is_not_trained(tmp_path):
    """The recipe's own names and prompts, embedded by open_clip's own text tower, of random weights."""
    made = build_recipe(tmp_path / "checkout", "voc12_clip")
    shutil.copy(tiny_clip.__file__, made.folder)
    known = made.folder / f"{tiny_clip.NAME}.json"
    known.write_text(json.dumps(tiny_clip.CONFIG))
    open_clip.add_model_config(known)
    torch.manual_seed(0)
    weights = made.folder / "clip.safetensors"
    save_file(open_clip.create_model(tiny_clip.NAME, pretrained=None).state_dict(), weights)
    backbone = {"name": tiny_clip.NAME, "frozen_blocks": "all", "weights": str(weights)}
    voc = build_voc(tmp_path / "archives")
    text = {"backbone": backbone, "text_model": tiny_clip.NAME, "embedding": 16}
    dataset = {"kind": "voc12", "root": str(voc.root), "augmented": False}
    plugins, splits = ["tiny_clip.py"], {"training": ["train"]}
    configure(made, backbone, train_clip_cam=text, dataset=dataset, plugins=plugins, splits=splits)
    made.snakemake("all")
    run = made.folder / "results/tiny"
    check_run(run, ["clip_cam", "amn_on_clip"])
    with safe_open(run / "0/clip_cam/model.safetensors", "pt") as tensors:
        # 20 classes and CLIP-ES's 25 backgrounds.
        assert tensors.get_tensor("text").shape == (45, 16)
