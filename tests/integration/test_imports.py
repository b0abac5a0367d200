"""Another method's activations and seeds: here the CAM's own, exported, so that all must come out alike."""

import numpy as np
import pytest
from safetensors.numpy import load_file

from workflow_scripts.storage.activations import ActivationReader
from workflow_scripts.storage.masks import MaskReader, encode_mask

THRESHOLDS = {"foreground_threshold": "auto", "background_threshold": "auto"}


@pytest.fixture(scope="module")
def imported(tiny_run, tmp_path_factory):
    """The tiny run after importing its CAM's training activations and seeds."""
    folder = tmp_path_factory.mktemp("theirs")
    trial = tiny_run.folder / "results/tiny/0"
    with (
        ActivationReader(trial / "cam/activations/train-00.safetensors") as activations,
        MaskReader(trial / "cam/seeds/train-00.zip") as seeds,
    ):
        for image in activations.ids:
            np.save(folder / f"{image}.npy", activations.read(image))
            (folder / f"{image}.png").write_bytes(encode_mask(seeds.read(image)))
    tiny_run.configure(
        imports={
            "theirs": {"activations": str(folder), "refine_seeds": THRESHOLDS},
            "manual": {"seeds": str(folder)},
        },
        variants={"amn_on_theirs": {"seeds_from": "theirs"}},
        methods=["cam", "amn", "theirs", "amn_on_theirs", "manual"],
    )
    try:
        made = (
            "amn_on_theirs/activations/train-00.safetensors",
            "manual/auto/pseudo_masks/train-00.zip",
        )
        tiny_run.snakemake(*(f"results/tiny/0/{path}" for path in made))
    finally:
        tiny_run.configure()
    return trial


def _masks(path):
    with MaskReader(path) as reader:
        return {image: reader.read(image) for image in reader.ids}


def test_imported_activations_give_the_same_seeds_and_the_same_amn(imported):
    theirs, ours = (_masks(imported / f"{m}/seeds/train-00.zip") for m in ("theirs", "cam"))
    assert theirs.keys() == ours.keys()
    assert all((theirs[image] == ours[image]).all() for image in ours)
    found, expected = (
        load_file(imported / f"{m}/model.safetensors") for m in ("amn_on_theirs", "amn")
    )
    assert all((found[name] == expected[name]).all() for name in expected)


def test_imported_seeds_are_kept_and_give_pseudo_masks(imported):
    manual, ours = (_masks(imported / f"{m}/seeds/train-00.zip") for m in ("manual", "cam"))
    assert all((manual[image] == ours[image]).all() for image in ours)
    assert _masks(imported / "manual/auto/pseudo_masks/train-00.zip").keys() == ours.keys()
