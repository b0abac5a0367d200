"""AMN's maps of full size come back from two bytes a cell, a line of scales and the seed's region."""

import numpy as np
import pytest

from workflow_scripts.errors import InputError
from workflow_scripts.storage.activations import (
    ActivationReader,
    ActivationWriter,
    activation_shape,
)
from workflow_scripts.storage.enlargement import enlarge
from workflow_scripts.storage.stretched import StretchedProbabilities


class Record:
    """As many pixels as make no whole bytes."""

    id, width, height, labels = "ü", 41, 27, (2, 5)


def stretched(lowest: float = -6, highest: float = 3) -> StretchedProbabilities:
    """Log-odds between two values, a region of an odd shape."""
    random = np.random.default_rng(0)
    odds = random.uniform(lowest, highest, activation_shape(Record)).astype(np.float32)
    probabilities = 1 / (1 + np.exp(-enlarge(odds, Record.height, Record.width)))
    inside = random.random((Record.height, Record.width)) < 0.3
    low, high = probabilities.min(axis=(1, 2)), probabilities.max(axis=(1, 2))
    return StretchedProbabilities(probabilities, inside, low, 1 / (high - low + 1e-5))


def test_both_readings_by_hand() -> None:
    probabilities = np.array([[[0.1, 0.2], [0.3, 0.5]]], np.float32)
    inside = np.array([[False, True], [True, False]])
    found = StretchedProbabilities(probabilities, inside, np.array([0.1]), np.array([2.5]))
    np.testing.assert_allclose(found.activation(), [[[0.1, 0.25], [0.5, 0.5]]], atol=1e-6)


@pytest.mark.parametrize("strided", [False, True])
def test_pixels_keep_their_side_of_the_regions_border(tmp_path, strided: bool) -> None:
    full = stretched()
    small = np.random.default_rng(1).random(activation_shape(Record)) if strided else None
    with ActivationWriter(
        tmp_path / "x", [Record], strided=strided, full=StretchedProbabilities
    ) as writer:
        writer.write(Record.id, small, full)
    with ActivationReader(tmp_path / "x") as reader:
        assert reader.ids == (Record.id,)
        found = reader.read_full(Record.id, Record.height, Record.width)
        np.testing.assert_allclose(found, full.activation(), atol=5e-4)
        if small is not None:
            found = reader.read_strided(Record.id, Record.height, Record.width)
            assert np.array_equal(found, small.astype(np.float16))
        else:
            with pytest.raises(InputError, match="no activation of image 'ü'"):
                reader.read_strided(Record.id, Record.height, Record.width)
        with pytest.raises(InputError, match="is not one of 41×28 pixels"):
            reader.read_full(Record.id, 28, 41)


def test_a_narrow_range_is_told_apart() -> None:
    """Probabilities of an untrained network differ in their third digit, and are stretched over 0…1."""
    full = stretched(-3.03, -2.94)
    assert np.ptp(full.probabilities) < 0.005
    restored = full.as_stored()
    np.testing.assert_allclose(restored.activation(), full.activation(), atol=5e-4)


def test_certain_flat_and_absent_probabilities() -> None:
    certain = np.zeros((2, 5, 9), np.float32)
    certain[0, :, 4:] = 1
    full = StretchedProbabilities(certain, np.zeros((5, 9), bool), *np.ones((2, 2), np.float32))
    found = full.as_stored().activation()
    assert np.isfinite(found).all() and found[1].max() < 1e-6
    assert found[0, :, 6:].min() > 0.99 and found[0, :, :2].max() < 0.01
    nothing = StretchedProbabilities(certain[:0], full.inside, np.zeros(0), np.zeros(0))
    assert nothing.as_stored().activation().shape == (0, 5, 9)


def test_a_damaged_region_is_named(tmp_path) -> None:
    path = tmp_path / "x"
    with ActivationWriter(path, [Record], strided=False, full=StretchedProbabilities) as writer:
        writer.write(Record.id, full=stretched())
    content = path.read_bytes()
    path.write_bytes(content[:-8] + bytes(8))
    with (
        ActivationReader(path) as reader,
        pytest.raises(InputError, match=r"x: the activation of image 'ü' .* cannot be unpacked"),
    ):
        reader.read_full(Record.id, Record.height, Record.width)


def test_a_shard_takes_two_bytes_a_cell_and_little_more(tmp_path) -> None:
    full = stretched()
    full = StretchedProbabilities(full.probabilities, full.inside & False, full.low, full.gain)
    with ActivationWriter(
        tmp_path / "x", [Record], strided=False, full=StretchedProbabilities
    ) as writer:
        writer.write(Record.id, full=full)
    cells = int(np.prod(activation_shape(Record)))
    assert (tmp_path / "x").stat().st_size < 2 * cells + 1000
