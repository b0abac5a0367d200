"""Images of one's own: odd names, mixed formats, few and many classes, with and without masks."""

import csv
import json

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


def test_the_fully_supervised_reference_needs_masks(checkout, tmp_path):
    root = tmp_path / "photos"
    checkout.write({"dataset": {"kind": "folder", "root": str(root)}, "methods": ["cam", "full"]})
    done = checkout.snakemake("all", "-n", check=False)
    assert done.returncode != 0
    assert "`full` learns from ground-truth masks" in done.stdout + done.stderr
