"""Another method's activations and seeds: here the CAM's own, exported, so that all must come out alike."""

import numpy as np
import pytest
from safetensors.numpy import load_file

from workflow_scripts.datasets.index import read_index
from workflow_scripts.storage.activations import ActivationReader
from workflow_scripts.storage.masks import MaskReader, encode_mask

THRESHOLDS = {"foreground_threshold": "auto", "background_threshold": "auto"}


@pytest.fixture(scope="module")
def imported(tiny_run, tmp_path_factory):
    """The tiny run after importing its CAM's training activations, at stride 4, and seeds."""
    folder = tmp_path_factory.mktemp("theirs")
    trial = tiny_run.folder / "results/tiny/0"
    with (
        ActivationReader(trial / "cam/activations/train-00.safetensors") as activations,
        MaskReader(trial / "cam/seeds/train-00.zip") as seeds,
    ):
        for image, size in _sizes(trial).items():
            np.save(folder / f"{image}.npy", activations.read_strided(image, *size))
            (folder / f"{image}.png").write_bytes(encode_mask(seeds.read(image)))
    tiny_run.configure(
        imports={
            "theirs": {"activations": str(folder), "refine_seeds": THRESHOLDS},
            "manual": {"seeds": str(folder)},
        },
        variants={"amn_on_manual": {"seeds_from": "manual"}},
        methods=["cam", "amn", "theirs", "manual", "amn_on_manual"],
    )
    try:
        made = (
            "theirs/seeds/train-00.zip",
            "amn_on_manual/activations/train-00.safetensors",
            "manual/auto/pseudo_masks/train-00.zip",
        )
        tiny_run.snakemake(*(f"results/tiny/0/{path}" for path in made))
    finally:
        tiny_run.configure()
    return trial


def _sizes(trial):
    """Rows and columns of the training images."""
    index = read_index(trial.parent / "dataset" / "index.csv")
    return {record.id: (record.height, record.width) for record in index.of_split("train")}


def _masks(path):
    with MaskReader(path) as reader:
        return {image: reader.read(image) for image in reader.ids}


def test_imported_activations_come_back_and_give_much_the_same_seeds(imported):
    """They lack what CAM's own map of full size has beyond that of stride 4."""
    shards = (imported / f"{m}/activations/train-00.safetensors" for m in ("theirs", "cam"))
    theirs, ours = map(ActivationReader, shards)
    sizes = _sizes(imported)
    assert theirs.ids == ours.ids == tuple(sizes)
    for image, size in sizes.items():
        expected = ours.read_strided(image, *size)
        assert (theirs.read_strided(image, *size) == expected.astype(np.float16)).all()
    theirs, ours = (_masks(imported / f"{m}/seeds/train-00.zip") for m in ("theirs", "cam"))
    assert theirs.keys() == ours.keys()
    assert np.mean([(theirs[image] == ours[image]).mean() for image in ours]) > 0.9


def test_imported_seeds_give_the_same_amn(imported):
    found, expected = (
        load_file(imported / f"{m}/model.safetensors") for m in ("amn_on_manual", "amn")
    )
    assert all((found[name] == expected[name]).all() for name in expected)


def test_imported_seeds_are_kept_and_give_pseudo_masks(imported):
    manual, ours = (_masks(imported / f"{m}/seeds/train-00.zip") for m in ("manual", "cam"))
    assert all((manual[image] == ours[image]).all() for image in ours)
    assert _masks(imported / "manual/auto/pseudo_masks/train-00.zip").keys() == ours.keys()
