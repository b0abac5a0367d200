"""Activations and seeds of another method become shards like ours."""

import json

import numpy as np
import pytest
from PIL import Image

from workflow_scripts.datasets.imported import (
    activations_of_seed,
    read_activations,
    read_seed,
)
from workflow_scripts.datasets.index import ImageRecord, IndexRow, write_index
from workflow_scripts.errors import InputError
from workflow_scripts.import_activations import main as import_activations
from workflow_scripts.import_seeds import main as import_seeds
from workflow_scripts.storage.activations import ActivationReader, enlarged
from workflow_scripts.storage.masks import MaskReader, encode_mask

WIDTH, HEIGHT = 30, 22
STORED = (6, 8)


@pytest.fixture
def record(tmp_path):
    return ImageRecord("a.b é", tmp_path / "a.jpg", WIDTH, HEIGHT, "train", (2, 4), None)


def _ramp(channels, height, width):
    """A plane over the image, the same at every resolution: 0…1 from left to right, scaled by channel."""
    x = (np.arange(width) + 0.5) / width
    return np.stack([np.tile(x * (c + 1) / channels, (height, 1)) for c in range(channels)])


@pytest.mark.parametrize(
    "size", [(HEIGHT, WIDTH), (2 * HEIGHT, 2 * WIDTH), STORED, (11, 15), (2, 2)]
)
def test_any_resolution_keeps_a_plane(tmp_path, record, size):
    np.save(tmp_path / f"{record.id}.npy", _ramp(2, *size).astype(np.float32))
    stored = read_activations(tmp_path, record, 5, "none")
    assert stored.shape == (2, *STORED) and stored.dtype == np.float32
    centres = (4 * np.arange(STORED[1]) + 2) / WIDTH
    inner = slice(1, -2) if size[1] > 2 else slice(3, 5)
    # Our own grid is taken as it is, whatever its last column covers.
    expected = (np.arange(8) + 0.5) / 8 if size == STORED else centres
    assert stored[1, 3, inner] == pytest.approx(expected[inner], abs=0.01)
    assert stored[0] == pytest.approx(stored[1] / 2, abs=1e-6)


def test_channels_of_labels_of_all_classes_and_with_background(tmp_path, record):
    everything = np.random.default_rng(0).random((5, *STORED)).astype(np.float16)
    path = tmp_path / f"{record.id}.npy"
    np.save(path, everything[[1, 3]])
    expected = read_activations(tmp_path, record, 5, "none")
    np.save(path, everything)
    assert (read_activations(tmp_path, record, 5, "none") == expected).all()
    np.save(path, np.concatenate([everything[:1] * 0 + 1, everything]))
    assert (read_activations(tmp_path, record, 5, "none") == expected).all()
    path.unlink()
    np.savez(
        path.with_name(f"{record.id}.npz"), activations=everything[[3, 1, 0]], labels=[4, 2, 1]
    )
    assert (read_activations(tmp_path, record, 5, "none") == expected).all()


def test_normalise_by_maximum(tmp_path, record):
    raw = np.random.default_rng(0).normal(3, 4, (2, *STORED))
    np.save(tmp_path / f"{record.id}.npy", raw)
    found = read_activations(tmp_path, record, 5, "maximum")
    positive = np.maximum(raw, 0)
    assert found == pytest.approx(positive / positive.max(axis=(1, 2), keepdims=True), abs=1e-4)
    with pytest.raises(InputError, match=r"normalise: maximum"):
        read_activations(tmp_path, record, 5, "none")


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.zeros((3, *STORED)), "3 channels; expected 2"),
        (np.zeros(STORED), "expected numbers"),
        (np.zeros((2, WIDTH, HEIGHT)), "transposed"),
        (np.full((2, *STORED), np.nan), "not finite"),
        (np.array([{"keys": 1}], object), "Pickled objects are not read"),
    ],
)
def test_unfit_arrays_are_named(tmp_path, record, array, message):
    np.save(tmp_path / f"{record.id}.npy", array, allow_pickle=True)
    with pytest.raises(InputError, match=message) as caught:
        read_activations(tmp_path, record, 5, "none")
    assert f"{record.id}.npy" in str(caught.value)


def test_missing_and_damaged_files(tmp_path, record):
    with pytest.raises(InputError, match=r"no file a\.b é\.npy or \.npz"):
        read_activations(tmp_path, record, 5, "none")
    (tmp_path / f"{record.id}.npz").write_bytes(b"PK\x03\x04 no more")
    with pytest.raises(InputError, match="not a readable array"):
        read_activations(tmp_path, record, 5, "none")
    with pytest.raises(InputError, match=r"no file a\.b é\.png"):
        read_seed(tmp_path, record, list("abcde"))


def test_hard_activations_give_the_mask_back():
    rng = np.random.default_rng(0)
    seed = np.kron(rng.choice([0, 2, 4, 255], (6, 8)), np.ones((4, 4))).astype(np.uint8)
    activations = activations_of_seed(seed, (2, 4))
    assert set(np.unique(activations)) == {0.0, 1.0}
    large = enlarged(activations, 24, 32)
    assert (np.where(large[0] > 0.5, 2, 0) == np.where(seed == 2, 2, 0)).mean() > 0.9


@pytest.fixture
def dataset(tmp_path):
    """Three images, the last without labels; arrays and masks of the first two."""
    folder = tmp_path / "dataset"
    rows = []
    for number, labels in enumerate((["cat"], ["cat", "dog"], [])):
        path = tmp_path / f"{number}.png"
        Image.fromarray(np.zeros((HEIGHT, WIDTH, 3), np.uint8)).save(path)
        rows.append(IndexRow(f"i{number}", str(path), WIDTH, HEIGHT, "train", labels, ""))
    write_index(folder / "index.csv", ["cat", "dog"], rows)
    (tmp_path / "mine").mkdir()
    for number in range(2):
        np.save(tmp_path / f"mine/i{number}.npy", np.full((2, 3, 4), 0.5, np.float32))
        mask = np.zeros((HEIGHT, WIDTH), np.uint8)
        mask[:8], mask[8:10] = number + 1, 255
        (tmp_path / f"mine/i{number}.png").write_bytes(encode_mask(mask))
    return folder


def test_import_activations_writes_a_shard(tmp_path, dataset):
    output = tmp_path / "shard.safetensors"
    arguments = ["--index", dataset / "index.csv", "--arrays", tmp_path / "mine"]
    arguments += ["--output", output, "--split", "train"]
    assert import_activations(list(map(str, arguments))) == 0
    with ActivationReader(output) as reader:
        assert reader.ids == ("i0", "i1", "i2")
        assert [len(reader.read_strided(image, HEIGHT, WIDTH)) for image in reader.ids] == [1, 2, 0]
        assert (reader.read_strided("i1", HEIGHT, WIDTH) == 0.5).all()


def test_import_seeds_writes_seeds_activations_and_composition(tmp_path, dataset):
    arguments = ["--index", dataset / "index.csv", "--masks", tmp_path / "mine"]
    arguments += ["--output", tmp_path / "a.safetensors", "--seeds", tmp_path / "s.zip"]
    arguments += ["--composition", tmp_path / "s.json", "--split", "train", "--threads", 2]
    assert import_seeds(list(map(str, arguments))) == 0
    with (
        MaskReader(tmp_path / "s.zip") as seeds,
        ActivationReader(tmp_path / "a.safetensors") as reader,
    ):
        assert set(np.unique(seeds.read("i1"))) == {0, 2, 255}
        assert not seeds.read("i2").any()
        absent, shown = reader.read_strided("i1", HEIGHT, WIDTH)
        assert (shown[:2] == 1).all() and not absent.any()
    counts = json.loads((tmp_path / "s.json").read_text())
    assert counts == {
        "background": 2 * 12 * WIDTH + HEIGHT * WIDTH,
        "foreground": 2 * 8 * WIDTH,
        "ignored": 2 * 2 * WIDTH,
    }
