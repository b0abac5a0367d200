"""Networks with ImageNet features and random heads, saved as a run leaves trained ones."""

from pathlib import Path

import torch
import yaml

from tests import backbones
from workflow_scripts.models.classification import CamNetwork
from workflow_scripts.models.feature_maps import load_backbone
from workflow_scripts.models.per_pixel import AmnNetwork
from workflow_scripts.segmenters.deeplab_v2 import DeepLabV2
from workflow_scripts.storage.networks import save_network

BACKBONE = backbones.settings(name="efficientnet_lite0")
CLASSES = ("cat", "dog", "bird")
DILATIONS = (1, 2)


def describe(kind: str, classes: tuple[str, ...] = CLASSES) -> dict:
    """What a training stage says about its network."""
    return {
        "kind": kind,
        "version": 1,
        "classes": list(classes),
        "backbone": BACKBONE.model_dump(),
        "dilations": DILATIONS,
        "label_conditioning": True,
        "precision": "float32",
        "mean": (0.5, 0.5, 0.5),
        "std": (0.5, 0.5, 0.5),
    }


def save_segmentation(folder: Path, **change: object) -> Path:
    """Write a segmentation network whose labels vary over an image; returns its folder.

    `change` replaces what its description says; None removes it.
    """
    torch.manual_seed(0)
    network = DeepLabV2(dilations=DILATIONS).build(load_backbone(BACKBONE), len(CLASSES))
    for branch in network.classifier.branches:
        torch.nn.init.normal_(branch.weight, std=2.0)
    description = describe("segmentation") | change
    said = {key: value for key, value in description.items() if value is not None}
    save_network(folder / "model.safetensors", network, said)
    return folder


def save_run(folder: Path, **configuration: object) -> Path:
    """Write classifier, AMN, classes and configuration of a run; returns its folder."""
    torch.manual_seed(0)
    classifier = CamNetwork(load_backbone(BACKBONE), len(CLASSES))
    # Features are mostly positive: so are the maps then, of every class.
    torch.nn.init.uniform_(classifier.classifier.weight)
    save_network(folder / "0/cam/model.safetensors", classifier, describe("cam"))
    save_network(
        folder / "0/amn/model.safetensors",
        AmnNetwork(load_backbone(BACKBONE), len(CLASSES), DILATIONS, 0.0, True),
        describe("amn"),
    )
    (folder / "dataset").mkdir()
    (folder / "dataset/classes.csv").write_text("\n".join(["name", *CLASSES]) + "\n")
    content = {
        "dataset": {"kind": "demo"},
        "infer_cam": {"scales": [1.0]},
        "infer_amn": {"scales": [1.0]},
        "refine_seeds": {"cam": {"foreground_threshold": 0.6, "background_threshold": 0.3}},
        "pseudo_masks": {},
        "thresholds": [0.4],
    }
    (folder / "config.yaml").write_text(yaml.safe_dump(content | configuration))
    return folder
