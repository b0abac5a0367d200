"""What reruns after an edit, and what does not."""

import contextlib
import copy
import json
import os
import re
import resource
import shutil

import pytest
import torch
import yaml

from tests import backbones
from tests.integration.conftest import TINY, Checkout


@pytest.fixture
def edited(tiny_run):
    """The tiny run, put back after the test."""
    kept: dict = {}

    def edit(name, change):
        path = tiny_run.folder / name
        kept.setdefault(path, path.read_text())
        text = path.read_text()
        assert change(text) != text
        path.write_text(change(text))

    yield edit
    for path, text in kept.items():
        path.write_text(text)
    tiny_run.configure()


@pytest.fixture
def spoilt(tiny_run, tmp_path):
    """A copy of the tiny run, in which jobs may fail."""
    copied = Checkout(shutil.copytree(tiny_run.folder, tmp_path / "checkout"))
    copied.configure()
    return copied


@contextlib.contextmanager
def full_disk(most):
    """No process started meanwhile can write a file of more bytes, as if the disk, or a quota, were full."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (most, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def failed(checkout, *arguments):
    """Run `all` to its bad end; returns the names of the rules that failed."""
    done = checkout.snakemake("all", *arguments, check=False)
    assert done.returncode != 0
    return set(re.findall(r"^Error in rule (\w+):", done.stdout + done.stderr, re.MULTILINE))


def test_what_follows_a_failed_job_is_made_anew(spoilt):
    """The job's former output is gone; what was made of it must not pass for that of the new values."""
    run = spoilt.folder / "results/tiny"
    before = json.loads((run / "summary.json").read_text())
    made = {path: path.stat().st_mtime_ns for path in run.glob("0/amn/**/*.*")}
    changed = copy.deepcopy(TINY["train_amn"])
    changed["training"]["epochs"] = 3
    spoilt.configure(train_amn=changed)
    with full_disk(most=(run / "0/amn/model.safetensors").stat().st_size - 1):
        assert failed(spoilt, "--keep-going") == {"train"}
    assert {"train amn", "infer amn", "train_segmentation"} <= spoilt.planned("train_all")
    spoilt.snakemake("all", "--rerun-incomplete")
    after = json.loads((run / "summary.json").read_text())
    assert after["methods"]["amn"] != before["methods"]["amn"]
    assert after["methods"]["cam"] == before["methods"]["cam"]
    assert [path for path, time in made.items() if path.stat().st_mtime_ns == time] == []
    assert spoilt.planned() == set()


def test_a_second_run_does_nothing(tiny_run):
    assert tiny_run.planned() == set()


def test_comments_and_messages_rerun_nothing(tiny_run, edited):
    edited("workflow_scripts/models/per_pixel.py", lambda text: "# A remark.\n" + text)
    edited("workflow_scripts/train.py", lambda text: text.replace('"""Train', '"""Really train'))
    edited("workflow_scripts/methods/cam.py", lambda text: text.replace('"""CAM', '"""Really CAM'))
    edited("rules/methods.smk", lambda text: "# A remark.\n" + text)
    edited("workflow_scripts/console/stage.py", lambda text: text.replace("done in", "took"))
    edited("workflow_scripts/training/loop.py", lambda text: text.replace("resuming at", "from"))
    assert tiny_run.planned() == set()


def test_an_edit_of_the_loss_reruns_amn_but_not_cam(tiny_run, edited):
    edited(
        "workflow_scripts/models/per_pixel.py",
        lambda text: text.replace("clamp(min=1)", "clamp(min=2)"),
    )
    planned = tiny_run.planned()
    assert {"train amn", "infer amn", "refine_seeds", "train_segmentation", "summarise"} <= planned
    assert not {"prepare_dataset", "train cam", "infer cam"} & planned


def test_more_cam_epochs_rerun_cam_and_what_follows(tiny_run, edited):
    changed = copy.deepcopy(TINY)
    changed["train_cam"]["training"]["epochs"] = 3
    tiny_run.configure(train_cam=changed["train_cam"])
    planned = tiny_run.planned()
    assert {"train cam", "infer cam", "refine_seeds", "train amn", "summarise"} <= planned
    assert "prepare_dataset" not in planned


def test_a_new_threshold_makes_new_masks_only(tiny_run, edited):
    tiny_run.configure(thresholds=[0.6])
    planned = tiny_run.planned()
    assert {"make_pseudo_masks", "train_segmentation", "summarise"} <= planned
    assert not {"train cam", "train amn", "infer cam", "infer amn", "refine_seeds"} & planned


def test_another_rule_chooses_anew_and_reruns_what_follows(tiny_run, edited):
    """The seeds depend on it and so does AMN; the classifier does not."""
    tiny_run.configure(choose_thresholds={"rule": "entropy"})
    planned = tiny_run.planned()
    assert {"choose_thresholds", "refine_seeds", "train amn", "make_pseudo_masks"} <= planned
    assert {"train_segmentation", "summarise"} <= planned
    assert not {"prepare_dataset", "train cam", "infer cam"} & planned


def test_an_edit_of_a_rule_chooses_anew(tiny_run, edited):
    edited(
        "workflow_scripts/threshold_rules/consensus.py",
        lambda text: text.replace("_SMALL_SIDE = 1e-3", "_SMALL_SIDE = 2e-3"),
    )
    planned = tiny_run.planned()
    assert {"choose_thresholds", "refine_seeds", "train amn", "train_segmentation"} <= planned
    assert not {"train cam", "infer cam"} & planned


@pytest.mark.parametrize(
    "asset, maker",
    [
        ("explorer/explorer.css", "make_explorer"),
        ("explorer/masks.js", "make_explorer"),
        ("gallery/gallery.html", "make_gallery"),
        ("captions/sweep_curves.rst", "make_pages"),
    ],
)
def test_an_edit_of_a_page_makes_that_page_and_the_report(tiny_run, edited, asset, maker):
    edited(f"workflow_scripts/report/{asset}", lambda text: text + "\n")
    assert tiny_run.planned() == {maker, "render_report"}


def test_the_report_follows_what_it_shows(tiny_run):
    """Files that only the report reads, touched and changed, make what shows them anew."""
    run = tiny_run.folder / "results/tiny/0"
    for file, makers in (
        ("cam/training.csv", {"plot_figures", "make_pages", "render_report"}),
        ("amn/seeds/val-00.zip", {"make_gallery", "render_report"}),
    ):
        kept = (run / file).read_bytes()
        try:
            (run / file).write_bytes(kept + b"\n")
            assert makers <= tiny_run.planned()
        finally:
            (run / file).write_bytes(kept)
            tiny_run.snakemake("all", "--touch")


def test_replaced_weights_train_anew(tiny_run, edited):
    """An older file too, as downloads are."""
    weights = tiny_run.folder / "weights.pth"
    torch.save(backbones.settings(name="efficientnet_lite0").published()[0], weights)
    changed = {**copy.deepcopy(TINY)["train_cam"], "backbone": {"weights": str(weights)}}
    tiny_run.configure(run="weighed", train_cam=changed)
    model = "results/weighed/0/cam/model.safetensors"
    tiny_run.snakemake(model)
    assert tiny_run.planned(model) == set()
    os.utime(weights, (1_000_000_000, 1_000_000_000))
    assert tiny_run.planned(model) == {"train cam"}


def test_order_and_spelling_rerun_nothing(tiny_run, edited):
    turned = dict(reversed([*copy.deepcopy(TINY).items()]))
    turned["train_cam"]["training"]["epochs"] = 2.0
    turned["train_cam"]["training"]["augmentation"]["resize_range"] = [1, 1]
    turned["infer_cam"]["scales"] = [1]
    (tiny_run.folder / "tiny.yaml").write_text(yaml.safe_dump(turned, sort_keys=False))
    assert tiny_run.planned() == set()


def test_a_misspelt_key_is_named_with_the_nearest(tiny_run, edited):
    tiny_run.configure(train_camm={"training": {"epochs": 1}})
    done = tiny_run.snakemake("all", "-n", check=False)
    assert done.returncode != 0
    output = done.stdout + done.stderr
    assert "train_camm: unknown key; did you mean `train_cam`?" in output
    assert "Traceback" not in output


def test_a_nested_misspelt_key_and_a_bad_value(tiny_run, edited):
    tiny_run.configure(train_amn={"training": {"epoch": 1}}, thresholds=[1.5])
    done = tiny_run.snakemake("all", "-n", check=False)
    assert done.returncode != 0
    output = done.stdout + done.stderr
    assert "train_amn.training.epoch: unknown key; did you mean `epochs`?" in output
    assert "thresholds lie between 0 and 1" in output
