"""What users do after a run: the commands give the same masks as the workflow."""

import subprocess
import sys

import yaml

from workflow_scripts.datasets.images import read_mask
from workflow_scripts.datasets.index import read_index
from workflow_scripts.settings.base import render_flags
from workflow_scripts.settings.segmentation import EvaluateSegmentationSettings
from workflow_scripts.storage.masks import MaskReader

RUN = "results/tiny"


def command(checkout, *words: object) -> None:
    done = subprocess.run(
        [sys.executable, "-m", *map(str, words)],
        cwd=checkout.folder,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def validation_images(checkout, folder):
    """Copies of the images of split val, and their records."""
    folder.mkdir()
    records = read_index(checkout.folder / RUN / "dataset/index.csv").of_split("val")
    for record in records:
        (folder / record.path.name).write_bytes(record.path.read_bytes())
    return records


def test_predict_gives_the_workflows_predictions(tiny_run, tmp_path):
    records = validation_images(tiny_run, tmp_path / "photos")
    configuration = yaml.safe_load((tiny_run.folder / RUN / "config.yaml").read_text())
    settings = EvaluateSegmentationSettings(**configuration["evaluate_segmentation"])
    model = f"{RUN}/0/amn/auto/segmentation"
    command(
        tiny_run, "workflow_scripts.predict", "--model", model, "--images", tmp_path / "photos",
        "--out", tmp_path / "out", *render_flags(settings).split(),
    )  # fmt: skip
    stored = MaskReader(tiny_run.folder / model / "predictions/val-00.zip")
    for record in records:
        mask = read_mask(tmp_path / "out/masks" / f"{record.path.stem}.png")
        assert (mask == stored.read(record.id)).all()


def test_label_gives_the_workflows_pseudo_masks(tiny_run, tmp_path):
    records = validation_images(tiny_run, tmp_path / "photos")
    classes = read_index(tiny_run.folder / RUN / "dataset/index.csv").classes
    rows = [
        f"{record.path.name},{';'.join(classes[label - 1] for label in record.labels)}"
        for record in records
    ]
    (tmp_path / "labels.csv").write_text("\n".join(["image,labels", *rows]) + "\n")
    command(
        tiny_run, "workflow_scripts.label", "--run", RUN, "--images", tmp_path / "photos",
        "--labels", tmp_path / "labels.csv", "--out", tmp_path / "out",
    )  # fmt: skip
    stored = MaskReader(tiny_run.folder / RUN / "0/amn/auto/pseudo_masks/val-00.zip")
    for record in records:
        mask = read_mask(tmp_path / "out/SegmentationClass" / f"{record.path.stem}.png")
        assert (mask == stored.read(record.id)).all()
