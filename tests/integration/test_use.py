"""What users do after a run: the commands give the same masks as the workflow."""

import shutil
import subprocess

import yaml

from tests.integration.conftest import TINY_TRAINING
from tests.warm_python import interpreter
from workflow_scripts.datasets.images import read_mask
from workflow_scripts.datasets.index import read_index
from workflow_scripts.settings.base import render_flags
from workflow_scripts.settings.evaluation import EvaluateSegmentationSettings
from workflow_scripts.storage.masks import MaskReader

RUN = "results/tiny"
BOUNDARY = {
    "enabled": True,
    # Pairs of pixels must fit into the crop.
    "train": {
        "backbone": {"name": "efficientnet_lite0", "frozen_stages": 0},
        "radius": 5,
        "training": TINY_TRAINING,
    },
    "propagate": {"steps": 16, "least_side": 64},
}


def command(checkout, *words: object) -> None:
    done = subprocess.run(
        [interpreter(), "-m", *map(str, words)],
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


def labelled(checkout, run, folder):
    """Masks that `label` makes of the images of split val, beside those of the workflow."""
    records = validation_images(checkout, folder / "photos")
    classes = read_index(checkout.folder / RUN / "dataset/index.csv").classes
    rows = [
        f"{record.path.name},{';'.join(classes[label - 1] for label in record.labels)}"
        for record in records
    ]
    (folder / "labels.csv").write_text("\n".join(["image,labels", *rows]) + "\n")
    command(
        checkout, "workflow_scripts.label", "--run", run, "--images", folder / "photos",
        "--labels", folder / "labels.csv", "--out", folder / "out",
    )  # fmt: skip
    with MaskReader(checkout.folder / run / "0/amn/auto/pseudo_masks/val-00.zip") as stored:
        for record in records:
            mask = read_mask(folder / "out/SegmentationClass" / f"{record.path.stem}.png")
            yield mask, stored.read(record.id)


def test_label_gives_the_workflows_pseudo_masks(tiny_run, tmp_path):
    assert all((mask == stored).all() for mask, stored in labelled(tiny_run, RUN, tmp_path))


def test_label_follows_learnt_boundaries_as_the_run_does(tiny_run, tmp_path):
    results = tmp_path / "results"
    run = results / "tiny"
    shutil.copytree(tiny_run.folder / RUN, run)
    shutil.rmtree(run / "0/amn/auto")
    # A run without boundaries stores no map for them.
    for method in ("cam", "amn"):
        shutil.rmtree(run / "0" / method / "activations")
    (run / "config.yaml").unlink()
    tiny_run.configure(results=str(results), boundary=BOUNDARY)
    try:
        tiny_run.snakemake(f"{run}/0/amn/auto/pseudo_masks/val-00.zip", f"{run}/config.yaml")
    finally:
        tiny_run.configure()
    pairs = list(labelled(tiny_run, run, tmp_path))
    assert all((mask == stored).all() for mask, stored in pairs)
    with MaskReader(tiny_run.folder / RUN / "0/amn/auto/pseudo_masks/val-00.zip") as plain:
        before = [plain.read(image) for image in plain.ids]
    assert any((mask != other).any() for (mask, _), other in zip(pairs, before, strict=True))
