"""Images of one's own: odd names, mixed formats, few and many classes, with and without masks."""

import csv
import json
import os
import shutil

import pytest

from tests.integration.conftest import copy_checkout
from tests.miniatures import build_folder, without_masks
from workflow_scripts.datasets.index import read_index
from workflow_scripts.storage.masks import MaskReader


@pytest.fixture(scope="module")
def checkout(tmp_path_factory):
    return copy_checkout(
        tmp_path_factory.mktemp("folder"), "config/folder.yaml", "config/miniature.yaml"
    )


def _run(checkout, name, root, **dataset):
    """Run the whole workflow on the folder `root`; returns the run's folder."""
    checkout.write({"run": name, "dataset": {"kind": "folder", "root": str(root), **dataset}})
    checkout.snakemake("all")
    return checkout.folder / "results" / name


@pytest.mark.parametrize("classes", [3, 120])
def test_few_and_many_classes(checkout, tmp_path, classes):
    dataset = build_folder(tmp_path / "my photos ü", classes=classes)
    run = _run(checkout, f"classes{classes}", dataset.root)
    summary = json.loads((run / "summary.json").read_text())
    assert summary["classes"] == dataset.classes
    assert summary["images"] == {"train": 24, "val": 6}
    for method in ("cam", "amn"):
        figures = summary["methods"][method]
        assert set(figures["activations"]) == {"train", "val"}
        # Classes that occur in no validation mask and no prediction have no IoU.
        scored = set(figures["segmentation"]["val"]["per_class"])
        assert "background" in scored
        assert scored <= {"background", *summary["classes"]}
    index = read_index(run / "dataset/index.csv")
    predictions = run / "0/amn/auto/segmentation/predictions/val-00.zip"
    with MaskReader(predictions) as masks:
        assert list(masks.ids) == [record.id for record in index.of_split("val")]


def test_without_masks_everything_runs_and_nothing_is_evaluated(checkout, tmp_path):
    dataset = build_folder(tmp_path / "photos")
    without_masks(dataset.root)
    run = _run(checkout, "blind", dataset.root, classes=dataset.classes[::-1])
    summary = json.loads((run / "summary.json").read_text())
    assert summary["classes"] == dataset.classes[::-1]
    for method in ("cam", "amn"):
        figures = summary["methods"][method]
        assert set(figures) == {"seeds"}
        shares = [
            figures["seeds"]["train"][k]["mean"] for k in ("background", "foreground", "ignored")
        ]
        assert sum(shares) == pytest.approx(1)
        assert (run / f"0/{method}/auto/segmentation/predictions/val-00.zip").is_file()
    assert not list(run.rglob("evaluation"))
    with (run / "summary.csv").open() as stream:
        assert {row["section"] for row in csv.DictReader(stream)} == {"seeds"}
    assert checkout.planned() == set()
    for name, content in _edits(dataset.root).items():
        kept, times = name.read_bytes(), name.stat()
        name.write_bytes(content)
        # Even one that is as old as the one before, or older.
        os.utime(name, (times.st_atime, times.st_mtime - 5))
        assert {"prepare_dataset", "train cam", "summarise"} <= checkout.planned()
        name.write_bytes(kept)
        os.utime(name, (times.st_atime, times.st_mtime))
        assert checkout.planned() == set()
    # A truncated image is told of each time, not only by the run that looks at it first.
    name.write_bytes(kept[:300])
    for _ in range(2):
        assert checkout.snakemake("all", check=False).returncode != 0
    name.write_bytes(kept)
    assert {"prepare_dataset", "train cam", "summarise"} <= checkout.planned()
    # Masks that come later are evaluated with.
    build_folder(tmp_path / "again")
    shutil.copytree(tmp_path / "again/masks", dataset.root / "masks")
    assert {"prepare_dataset", "sweep_thresholds", "summarise"} <= checkout.planned()
    checkout.snakemake("results/blind/dataset/index.csv")
    records = read_index(run / "dataset/index.csv").records
    assert all(record.mask is not None for record in records)


def _edits(root):
    """Two files of a dataset with other content of the same length."""
    table = root / "labels.csv"
    image = next((root / "images").glob("*.jpg"))
    labels = table.read_bytes().replace(b"class 001", b"class 002", 1)
    return {table: labels, image: image.read_bytes()[:-2] + b"xx"}


def test_the_fully_supervised_reference_needs_masks(checkout, tmp_path):
    root = tmp_path / "photos"
    checkout.write({"dataset": {"kind": "folder", "root": str(root)}, "methods": ["cam", "full"]})
    done = checkout.snakemake("all", "-n", check=False)
    assert done.returncode != 0
    assert "`full` learns from ground-truth masks" in done.stdout + done.stderr
