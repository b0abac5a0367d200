import csv

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from pydantic import ValidationError

from tests import backbones
from workflow_scripts import propagate, train_boundary
from workflow_scripts.datasets.index import IndexRow, read_index, write_index
from workflow_scripts.errors import InputError
from workflow_scripts.models.boundary_settings import TrainBoundarySettings
from workflow_scripts.refinement.random_walk import BoundaryWalk, normalise_globally
from workflow_scripts.storage.activations import ActivationReader, ActivationWriter, enlarged
from workflow_scripts.storage.masks import MaskWriter
from workflow_scripts.training import training_stage

SIZES = [(48, 64), (48, 64), (45, 37), (48, 64), (45, 37), (20, 64)]
LABELS = [["cat"], ["cat", "dog"], ["dog"], [], ["cat"], ["dog", "cow"]]


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    """Six photographs of noise with a bright block, seeds and activations that show the block."""
    folder = tmp_path_factory.mktemp("dataset")
    random = np.random.default_rng(0)
    rows = []
    for number, ((height, width), labels) in enumerate(zip(SIZES, LABELS, strict=True)):
        image = random.integers(0, 60, (height, width, 3), np.uint8)
        image[4:16, 8:28] += 180
        Image.fromarray(image).save(folder / f"{number}.png")
        rows.append(IndexRow(f"é {number}", f"{number}.png", width, height, "train", labels, ""))
    write_index(folder / "index.csv", ["cat", "dog", "cow"], rows)
    records = read_index(folder / "index.csv").records
    with (
        MaskWriter(folder / "seeds.zip") as seeds,
        ActivationWriter(folder / "activations.safetensors", records) as activations,
    ):
        for record in records:
            seed = np.zeros((record.height, record.width), np.uint8)
            seed[4:16, 8:28] = record.labels[0] if record.labels else 0
            seed[16:18] = 255
            seeds.write(record.id, seed)
            shape = len(record.labels), -(-record.height // 4), -(-record.width // 4)
            activation = random.random(shape) * 0.2
            activation[:1, 1:3, 3:6] = 0.9
            activations.write(record.id, activation)
    return folder


def train(folder, name, *more):
    arguments = [
        "--index", str(folder / "index.csv"), "--seeds", str(folder / "seeds.zip"), "--workers", "0",
        "--output", str(folder / name / "model.safetensors"), "--device", "cpu", "--radius", "3",
        "--backbone-name", "efficientnet_lite0", "--training-epochs", "2",
        "--training-batch-size", "3", "--training-augmentation-crop", "48", *more,
    ]  # fmt: skip
    assert train_boundary.main(arguments) == 0
    return folder / name / "model.safetensors"


@pytest.fixture(scope="module")
def model(dataset):
    return train(dataset, "boundary")


def walk(folder, model, name, *more):
    output = folder / name
    arguments = [
        "--index", str(folder / "index.csv"), "--split", "train", "--model", str(model),
        "--activations", str(folder / "activations.safetensors"), "--output", str(output),
        "--device", "cpu", "--steps", "16", "--least-side", "64", *more,
    ]  # fmt: skip
    assert propagate.main(arguments) == 0
    with ActivationReader(output) as reader:
        records = read_index(folder / "index.csv").records
        return {r.id: reader.read_strided(r.id, r.height, r.width) for r in records}


def test_replaced_weights_belong_to_another_training(dataset, tmp_path, monkeypatch):
    """A checkpoint of the same path, but other content, is not resumed from."""
    weights = tmp_path / "weights.pth"
    tensors = backbones.settings(name="efficientnet_lite0").published()[0]
    found = []

    def stop(network, task, images, settings, name, run):
        found.append(run.checkpoint.fingerprint)
        raise InputError("far enough")

    monkeypatch.setattr(training_stage, "train", stop)
    for change in (0, 0, 1):
        tensors["conv_stem.weight"] = tensors["conv_stem.weight"] + change
        torch.save(tensors, weights)
        with pytest.raises(AssertionError):
            train(dataset, "replaced", "--backbone-weights", str(weights))
    assert found[0] == found[1] != found[2]


def test_training_is_repeatable_and_writes_its_history(dataset, model):
    again = train(dataset, "again")
    assert model.read_bytes() == again.read_bytes()
    rows = list(csv.DictReader((model.parent / "training.csv").open()))
    assert [row["epoch"] for row in rows] == ["1", "2"]
    assert all(np.isfinite(float(row["loss"])) for row in rows)


def test_propagated_activations_fill_0_to_1_and_batches_change_nothing(dataset, model, monkeypatch):
    monkeypatch.setitem(propagate.PIXELS, "cpu", 1)
    alone = walk(dataset, model, "alone.safetensors")
    records = read_index(dataset / "index.csv").records
    assert list(alone) == [record.id for record in records]
    for record in records:
        activation = alone[record.id]
        assert activation.shape[0] == len(record.labels)
        if record.labels:
            large = enlarged(activation, record.height, record.width)
            assert activation.min() >= 0
            assert large.max() == pytest.approx(1, abs=1e-3)
    monkeypatch.setitem(propagate.PIXELS, "cpu", 4 * 64 * 64)
    together = walk(dataset, model, "together.safetensors")
    for image, activation in alone.items():
        np.testing.assert_allclose(together[image], activation, atol=2e-3)


def test_what_does_not_fit_into_the_gpus_memory_is_halved(dataset, model, monkeypatch):
    expected = walk(dataset, model, "expected.safetensors")
    whole = BoundaryWalk.propagated
    tried = []

    def small(self, images, activations):
        tried.append(len(images))
        if len(images) > 1:
            raise torch.cuda.OutOfMemoryError("too little")
        return whole(self, images, activations)

    monkeypatch.setattr(BoundaryWalk, "propagated", small)
    found = walk(dataset, model, "halved.safetensors")
    assert tried == [3, 1, 2, 1, 1, 2, 1, 1, 1]
    for image, activation in expected.items():
        np.testing.assert_allclose(found[image], activation, atol=2e-3)


def test_no_step_leaves_the_activations_as_they_were_but_at_boundaries(dataset, model):
    scores = walk(dataset, model, "none.safetensors", "--steps", "0", "--exponent", "1")
    [record] = [r for r in read_index(dataset / "index.csv").records if r.id == "é 0"]
    with ActivationReader(dataset / "activations.safetensors") as reader:
        before = reader.read_strided(record.id, record.height, record.width)
    ratio = scores["é 0"] / before
    assert ratio.std() > 0
    assert np.corrcoef(scores["é 0"].ravel(), before.ravel())[0, 1] > 0.3


def test_scores_are_divided_by_the_largest_value_at_full_size():
    scores = torch.rand(2, 9, 7) * 5
    normalised = normalise_globally(scores, 34, 28)
    large = F.interpolate(scores[None], scale_factor=4, mode="bilinear", align_corners=False)
    expected = large[0, :, :34, :28] / large[0, :, :34, :28].max()
    ours = torch.from_numpy(enlarged(normalised.numpy(), 34, 28))
    torch.testing.assert_close(ours, expected)
    assert normalise_globally(torch.zeros(1, 3, 3), 12, 12).max() == 0


def test_a_crop_must_hold_pairs():
    with pytest.raises(ValidationError, match="radius 10 needs 73"):
        TrainBoundarySettings(training={"augmentation": {"crop": 64}})
