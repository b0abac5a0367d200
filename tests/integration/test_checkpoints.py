"""A run on published checkpoints of CAM, AMN and IRN, here of random weights: none of these is trained."""

import os
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from tests.integration.conftest import TINY, Checkout, copy_checkout
from tests.published_networks import PUBLISHED
from workflow_scripts.datasets.kinds.demo import class_names
from workflow_scripts.storage.networks import read_description

RUN = "results/tiny/0"
FILES = "my files ü"
CHECKPOINTS = {
    "cam": f"{FILES}/res50 cam.pth",
    "amn": f"{FILES}/res50 amn.pth",
    "boundary": {"amn": f"{FILES}/res50 irn.pth"},
}
CONFIGURATION = {
    "dataset": {**TINY["dataset"], "train_images": 6, "val_images": 2},
    "checkpoints": CHECKPOINTS,
    # Fewer jobs; and without masks none can have a part in it.
    "masks": False,
    "methods": ["amn"],
    "splits": {"activations": ["train"]},
    "thresholds": [0.5],
    "refine_seeds": {
        method: {"foreground_threshold": 0.6, "background_threshold": 0.3}
        for method in ("cam", "amn")
    },
    "boundary": {"enabled": True, "propagate": {"steps": 16, "least_side": 0}},
}


@pytest.fixture(scope="module")
def tensors():
    classes = len(class_names())
    return {
        kind: (make() if kind == "irn" else make(classes)).state_dict()
        for kind, make in PUBLISHED.items()
    }


@pytest.fixture(scope="module")
def checkout(tmp_path_factory, tensors) -> Checkout:
    """A checkout in which the whole workflow has run on the three files."""
    checkout = copy_checkout(tmp_path_factory.mktemp("checkpoints"))
    folder = checkout.folder / FILES
    folder.mkdir()
    for kind, named in tensors.items():
        torch.save(named, folder / f"res50 {kind}.pth")
    checkout.configure(**CONFIGURATION)
    checkout.snakemake("all")
    yield checkout
    for path in [*folder.iterdir(), *checkout.folder.rglob("*.safetensors")]:
        path.unlink()


def test_only_the_segmentation_network_is_trained(checkout):
    run = checkout.folder / RUN
    tables = [str(path.relative_to(run)) for path in run.rglob("training.csv")]
    assert tables == ["amn/t0.50/segmentation/training.csv"]
    benchmarks = {path.name for path in (run.parent / "benchmarks").glob("train_*")}
    assert benchmarks == {"train_segmentation"}


@pytest.mark.parametrize(
    ("model", "kind", "names"),
    [
        ("cam", "cam", {"classifier.weight": "classifier.weight"}),
        ("amn", "amn", {"label_conditioning.bias": "label_enc.bias",
                        "classifier.branches.2.weight": "classifier.1.c2.weight"}),
        ("amn/boundary", "irn", {"edge.head.weight": "fc_edge6.weight"}),
    ],
)  # fmt: skip
def test_networks_hold_the_tensors_of_the_files(checkout, tensors, model, kind, names):
    path = checkout.folder / RUN / model / "model.safetensors"
    found = load_file(path)
    for ours, theirs in {
        **names,
        "backbone.layer3.1.conv2.weight": "resnet50.layer3.1.conv2.weight",
    }.items():
        assert torch.equal(found[ours], tensors[kind][theirs])
    said = read_description(path, {"irn": "boundary"}.get(kind, kind))
    assert Path(said["imported_from"]).name == f"res50 {kind}.pth"


def test_the_report_says_where_the_networks_are_from(checkout):
    run = checkout.folder / "results/tiny"
    assert (run / "report.html").is_file() and (run / "figures/training_curves.svg").is_file()
    assert f"imported from {CHECKPOINTS['cam']}" in (run / "pages/provenance.html").read_text()


def test_a_network_without_a_file_is_trained_again(checkout):
    checkout.configure(**CONFIGURATION | {"checkpoints": CHECKPOINTS | {"amn": None}})
    planned = checkout.planned()
    checkout.configure(**CONFIGURATION)
    assert {"train amn", "infer amn", "propagate", "summarise"} <= planned
    assert not {"import_checkpoint", "train_boundary", "train cam", "infer cam"} & planned


def test_another_file_is_imported_anew(checkout):
    """An older one too, as downloads are; a missing one is named before anything runs."""
    assert checkout.planned() == set()
    file = checkout.folder / CHECKPOINTS["boundary"]["amn"]
    os.utime(file, (1_000_000_000, 1_000_000_000))
    planned = checkout.planned()
    assert {"import_checkpoint", "propagate", "make_pseudo_masks", "summarise"} <= planned
    assert not {"infer cam", "infer amn", "refine_seeds"} & planned
    file.rename(checkout.folder / "elsewhere.pth")
    done = checkout.snakemake("all", "-n", check=False)
    (checkout.folder / "elsewhere.pth").rename(file)
    assert done.returncode
    assert (
        f"checkpoints.boundary.amn: {CHECKPOINTS['boundary']['amn']}: no such file"
        in done.stdout + done.stderr
    )
