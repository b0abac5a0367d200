"""AMN's maps: from logits of several scales, one map of the absent classes and the seed's region."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pytest

from workflow_scripts.errors import InputError
from workflow_scripts.storage.activation_maps import AmnMaps, enlarge, reduce
from workflow_scripts.storage.activations import (
    ActivationReader,
    ActivationWriter,
    activation_shape,
)


@dataclass(frozen=True)
class Record:
    """As many pixels as make no whole bytes."""

    id: str = "ü"
    width: int = 41
    height: int = 27
    labels: Sequence[int] = (2, 5)


def amn_maps(record: Record, low: float = -6, high: float = 3, absent: int = 1) -> AmnMaps:
    random = np.random.default_rng(0)
    size = activation_shape(record)[1:]
    logits = tuple(
        random.uniform(low, high, (len(record.labels) + 1 + absent, *shape)).astype(np.float32)
        for shape in ((2, 3), (1, 2), (4, 6))
    )
    small, strided = random.uniform(0, 3, (2, absent, *size)).astype(np.float32)
    inside = random.random((record.height, record.width)) < 0.3
    return AmnMaps(
        len(record.labels), logits, enlarge(small, record.height, record.width), strided, inside
    )


@pytest.mark.parametrize("offset", [0, 1e4])
def test_the_softmax_by_hand(offset: float) -> None:
    """Exponentials 1 of the background, 2 and 3 of two labels, 4 of the others: 1 of their mean, times 4."""
    exponentials = np.array([1, 2, 3, 1], np.float32)[:, None, None]
    logits = np.broadcast_to(np.log(exponentials) + offset, (4, 1, 1)).astype(np.float32)
    excess = np.full((1, 1, 1), np.log(4), np.float32)
    outside = np.zeros((1, 1), bool)
    found = AmnMaps(2, (logits,), excess, excess, outside)
    np.testing.assert_allclose(found.activation().ravel(), [0.2, 0.3], rtol=2e-3)
    np.testing.assert_allclose(found.strided().ravel(), [0.2, 0.3], rtol=2e-3)
    found = AmnMaps(2, (logits[:3],), excess[:0], excess[:0], outside)
    np.testing.assert_allclose(found.activation().ravel(), [1 / 3, 1 / 2], rtol=2e-3)


@pytest.mark.parametrize(("low", "high"), [(-6, 3), (90, 99), (-0.05, 0.05)])
@pytest.mark.parametrize("absent", [0, 1])
def test_pixels_keep_their_side_of_the_regions_border(tmp_path, low, high, absent) -> None:
    record, other = Record(), Record(id="bare", labels=())
    maps = amn_maps(record, low, high, absent)
    with ActivationWriter(tmp_path / "x", [record, other], AmnMaps) as writer:
        writer.write(record.id, maps)
        writer.write(other.id, amn_maps(other))
    with ActivationReader(tmp_path / "x") as reader:
        assert reader.ids == (record.id, other.id)
        found = reader.read_full(record.id, record.height, record.width)
        assert np.ptp(found[:, maps.inside]) == pytest.approx(1, abs=0.3)
        np.testing.assert_allclose(found, maps.activation(), atol=1e-3)
        found = reader.read_strided(record.id, record.height, record.width)
        assert found.shape == activation_shape(record)
        np.testing.assert_allclose(found, maps.strided(), atol=1e-3)
        assert reader.read_full(other.id, 27, 41).shape == (0, 27, 41)
        with pytest.raises(InputError, match="is not one of 41×30 pixels"):
            reader.read_full(record.id, 30, 41)
        with pytest.raises(InputError, match=r"is not one of 41×28 pixels.*the region"):
            reader.read_full(record.id, 28, 41)
    with pytest.raises(ValueError, match="absent classes"):
        AmnMaps(2, maps.logits, maps.absent, maps.absent_strided, maps.inside[1:])


def test_what_an_image_takes(tmp_path) -> None:
    """As the README says: 11 kB a label at four scales, and 70 kB besides."""
    sizes = []
    for labels in ((), (1, 2, 3)):
        record = Record(width=500, height=375, labels=labels)
        shapes = [(-(-375 * s // 16), -(-500 * s // 16)) for s in (1, 0.5, 1.5, 2)]
        shapes = [(int(rows), int(columns)) for rows, columns in shapes]
        cells = tuple(np.zeros((len(labels) + 2, *shape), np.float32) for shape in shapes)
        others = np.zeros((1, 375, 500), np.float32)
        seed = np.hypot(*np.mgrid[-187:188, -250:250]) < 100
        maps = AmnMaps(len(labels), cells, others, reduce(others), seed)
        with ActivationWriter(tmp_path / "x", [record], AmnMaps) as writer:
            writer.write(record.id, maps)
        sizes.append((tmp_path / "x").stat().st_size)
    assert sizes[0] == pytest.approx(70_000, rel=0.05)
    assert (sizes[1] - sizes[0]) / 3 == pytest.approx(11_000, rel=0.05)


def test_a_damaged_region_is_named(tmp_path) -> None:
    path, record = tmp_path / "x", Record()
    with ActivationWriter(path, [record], AmnMaps) as writer:
        writer.write(record.id, amn_maps(record))
    content = path.read_bytes()
    path.write_bytes(content[:-8] + bytes(8))
    with (
        ActivationReader(path) as reader,
        pytest.raises(InputError, match=r"x: the activation of image 'ü' .* cannot be unpacked"),
    ):
        reader.read_full(record.id, record.height, record.width)
