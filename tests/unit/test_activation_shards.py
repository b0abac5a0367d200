import pickle
import struct
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
from safetensors import safe_open

from workflow_scripts.errors import InputError
from workflow_scripts.storage.activation_maps import AmnMaps, CamMaps, enlarge, reduce
from workflow_scripts.storage.activations import (
    ActivationReader,
    ActivationWriter,
    activation_shape,
    enlarged,
)


@dataclass(frozen=True)
class Record:
    id: str
    width: int
    height: int
    labels: Sequence[int]


RECORDS = [
    Record("a b/ü ☂", 33, 21, (1, 3)),
    Record("no labels", 5, 7, ()),
    Record('quote " back\\slash\nline', 1, 1, (2,)),
    Record("../2007_000032.jpg", 64, 48, (20,)),
]


def activations(seed: int = 0) -> list[np.ndarray]:
    random = np.random.default_rng(seed)
    return [random.random(activation_shape(record), np.float32) for record in RECORDS]


def write(path: Path) -> None:
    with ActivationWriter(path, RECORDS) as writer:
        for record, activation in zip(RECORDS, activations(), strict=True):
            writer.write(record.id, activation)


def test_round_trip_in_half_precision_and_any_order(tmp_path: Path) -> None:
    path = tmp_path / "train-00.safetensors"
    write(path)
    with ActivationReader(path) as reader:
        assert reader.ids == tuple(record.id for record in RECORDS)
        for record, expected in reversed(list(zip(RECORDS, activations(), strict=True))):
            read = reader.read_strided(record.id, record.height, record.width)
            assert read.dtype == np.float32
            assert np.array_equal(read, expected.astype(np.float16))


def cam_maps(record: Record, seed: int = 0) -> CamMaps:
    random, height, width = np.random.default_rng(seed), record.height, record.width
    maps = []
    for scale in (1.0, 0.5, 2.0):
        rows, columns = (max(1, round(side * scale / 16)) for side in (height, width))
        maps.append(random.exponential(7, (len(record.labels), rows, columns)).astype(np.float32))
    return CamMaps(tuple(maps), height, width)


def test_maps_of_all_scales_give_both_maps_of_an_image(tmp_path: Path) -> None:
    path = tmp_path / "x"
    with ActivationWriter(path, RECORDS, CamMaps) as writer:
        for record in RECORDS:
            writer.write(record.id, cam_maps(record))
    with ActivationReader(path) as reader:
        assert reader.ids == tuple(record.id for record in RECORDS)
        for record in RECORDS:
            size, expected = (record.height, record.width), cam_maps(record)
            found = reader.read_full(record.id, *size)
            np.testing.assert_allclose(found, expected.activation(), atol=1e-3)
            strided = reader.read_strided(record.id, *size)
            assert strided.shape == activation_shape(record)
            np.testing.assert_allclose(strided, expected.strided(), atol=1e-3)
        with pytest.raises(InputError, match="'else'"):
            reader.read_full("else", 21, 33)
        with pytest.raises(InputError, match=r"is not one of 33×22 pixels .*33×21"):
            reader.read_strided(RECORDS[0].id, 22, 33)


@pytest.mark.parametrize(("cell", "rounded"), [(16, (48, 64)), (14, (42, 56))])
def test_multi_scale_maps_are_what_torch_makes_of_them(
    cell: int, rounded: tuple[int, int], tmp_path: Path
) -> None:
    """Enlarged to multiples of a cell and cropped, or to stride 4; then divided by the maximum."""
    torch = pytest.importorskip("torch")
    record = Record("x", 53, 37, (1, 3))
    maps = replace(cam_maps(record), cell=cell)

    def total(height: int, width: int) -> np.ndarray:
        enlarged = [
            torch.nn.functional.interpolate(
                torch.from_numpy(one)[None], (height, width), mode="bilinear", align_corners=False
            )
            for one in maps.maps
        ]
        return sum(enlarged)[0].numpy()

    full, strided = total(*rounded)[:, :37, :53], total(10, 14)
    for found, expected in ((maps.activation(), full), (maps.strided(), strided)):
        expected = expected / (expected.max(axis=(1, 2), keepdims=True) + 1e-5)
        np.testing.assert_allclose(found, expected, atol=1e-5)
    with ActivationWriter(tmp_path / "x", [record], CamMaps) as writer:
        writer.write(record.id, maps)
    with ActivationReader(tmp_path / "x") as reader:
        found = reader.read_full(record.id, record.height, record.width)
    np.testing.assert_allclose(found, maps.activation(), atol=1e-3)


def test_maps_of_another_kind_or_that_are_no_numbers_are_refused(tmp_path: Path) -> None:
    record, maps, small = RECORDS[0], cam_maps(RECORDS[0]), activations()[0]
    for kind, activation in ((None, maps), (CamMaps, small), (AmnMaps, maps)):
        with (
            pytest.raises(ValueError, match="expected <class"),
            ActivationWriter(tmp_path / "x", RECORDS, kind) as writer,
        ):
            writer.write(record.id, activation)
    for other in (Record(record.id, 33, 21, (1,)), Record(record.id, 33, 22, (1, 3))):
        with (
            pytest.raises(InputError, match=r"the index says \(2, 21, 33\)"),
            ActivationWriter(tmp_path / "x", RECORDS, CamMaps) as writer,
        ):
            writer.write(record.id, cam_maps(other))
    maps.maps[1][0, 0, 0] = np.nan
    with (
        pytest.raises(InputError, match="values that are no numbers"),
        ActivationWriter(tmp_path / "x", RECORDS, CamMaps) as writer,
    ):
        writer.write(record.id, maps)
    assert not list(tmp_path.iterdir())


def test_another_size_than_the_shards_is_named(tmp_path: Path) -> None:
    write(tmp_path / "one")
    with ActivationReader(tmp_path / "one") as reader:
        found = reader.read_full(RECORDS[0].id, 21, 33)
        assert np.array_equal(found, enlarged(reader.read_strided(RECORDS[0].id, 21, 33), 21, 33))
        for read in (reader.read_full, reader.read_strided):
            with pytest.raises(InputError, match="is not one of 33×25 pixels"):
                read(RECORDS[0].id, 25, 33)


@pytest.mark.parametrize(("height", "width"), [(1, 1), (12, 16), (13, 18), (281, 353)])
def test_downsampling_undoes_enlarging_and_is_the_closest(height: int, width: int) -> None:
    random = np.random.default_rng(0)
    shape = (2, -(-height // 4), -(-width // 4))
    small = random.random(shape, np.float32)
    np.testing.assert_allclose(reduce(enlarge(small, height, width)), small, atol=1e-4)
    y, x = np.mgrid[:height, :width] / 40
    full = np.stack([0.5 + 0.3 * np.sin(y * 2 + x), 0.5 + 0.3 * np.cos(x * 3)]).astype(np.float32)
    best = reduce(full)
    error = np.square(enlarge(best, height, width) - full).sum()
    for _ in range(5):
        other = best + random.normal(0, 0.01, shape).astype(np.float32)
        assert np.square(enlarge(other, height, width) - full).sum() >= error - 1e-6


def test_peaks_may_exceed_1_but_not_their_enlargement(tmp_path: Path) -> None:
    record = Record("peak", 16, 16, (1,))
    peak = np.zeros((1, 4, 4), np.float32)
    peak[0, 1, 1] = 1.25
    with ActivationWriter(tmp_path / "x", [record], peaks=True) as writer:
        writer.write("peak", peak)
    with ActivationReader(tmp_path / "x") as reader:
        assert np.array_equal(reader.read_strided("peak", 16, 16), peak)
        assert reader.read_full("peak", 16, 16).max() <= 1
    assert enlarged(2 * peak, 16, 16).max() == 1


def test_file_is_what_the_safetensors_library_reads(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    write(path)
    with safe_open(str(path), framework="numpy") as file:
        assert set(file.keys()) == {record.id for record in RECORDS}
        for record, expected in zip(RECORDS, activations(), strict=True):
            tensor = file.get_tensor(record.id)
            assert tensor.dtype == np.float16
            assert np.array_equal(tensor, expected.astype(np.float16))


def test_equal_activations_give_equal_files(tmp_path: Path) -> None:
    write(tmp_path / "a")
    write(tmp_path / "b")
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_empty_shard(tmp_path: Path) -> None:
    with ActivationWriter(tmp_path / "x", []):
        pass
    assert ActivationReader(tmp_path / "x").ids == ()


def test_reader_survives_pickling(tmp_path: Path) -> None:
    write(tmp_path / "x")
    reader = pickle.loads(pickle.dumps(ActivationReader(tmp_path / "x")))
    assert np.array_equal(
        reader.read_strided(RECORDS[0].id, 21, 33), activations()[0].astype(np.float16)
    )


@pytest.mark.parametrize("number", [1, 3])
def test_writer_refuses_another_order(tmp_path: Path, number: int) -> None:
    record = RECORDS[number]
    shape = activation_shape(record)
    with (
        pytest.raises(ValueError, match="expected 'a b/ü ☂'"),
        ActivationWriter(tmp_path / "x", RECORDS) as writer,
    ):
        writer.write(record.id, np.zeros(shape))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("activation", "message"),
    [
        (np.zeros((2, 6, 8)), r"not \(2, 6, 9\)"),
        (np.full((2, 6, 9), np.nan), "from 0 to 1"),
        (np.full((2, 6, 9), 1.5), "from 0 to 1"),
        (np.full((2, 6, 9), -0.5), "from 0 to 1"),
    ],
)
def test_writer_refuses_wrong_shape_and_values(
    tmp_path: Path, activation: np.ndarray, message: str
) -> None:
    with (
        pytest.raises(ValueError, match=message),
        ActivationWriter(tmp_path / "x", RECORDS) as writer,
    ):
        writer.write(RECORDS[0].id, activation)
    assert not list(tmp_path.iterdir())


def test_writer_refuses_missing_extra_and_double_images(tmp_path: Path) -> None:
    with (
        pytest.raises(ValueError, match="no labels"),
        ActivationWriter(tmp_path / "x", RECORDS) as writer,
    ):
        writer.write(RECORDS[0].id, activations()[0])
    with (
        pytest.raises(ValueError, match="after the last"),
        ActivationWriter(tmp_path / "x", RECORDS[:1]) as writer,
    ):
        writer.write(RECORDS[0].id, activations()[0])
        writer.write(RECORDS[1].id, activations()[1])
    with (
        pytest.raises(ValueError, match="twice"),
        ActivationWriter(tmp_path / "x", [RECORDS[0]] * 2),
    ):
        pass
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("size", [0, 5, 40, -1])
def test_truncated_file_is_named(tmp_path: Path, size: int) -> None:
    path = tmp_path / "x"
    write(path)
    path.write_bytes(path.read_bytes()[:size])
    with pytest.raises(InputError, match="x: not an activation shard"):
        ActivationReader(path)


def test_other_files_and_images_are_named(tmp_path: Path) -> None:
    path = tmp_path / "x"
    with pytest.raises(InputError, match="cannot be opened"):
        ActivationReader(path)
    path.write_bytes(struct.pack("<Q", 2) + b"{}")
    with pytest.raises(InputError, match="not an activation shard"):
        ActivationReader(path)
    write(path)
    with pytest.raises(InputError, match="no activation of image 'else'"):
        ActivationReader(path).read_strided("else", 21, 33)


@pytest.mark.parametrize("size", [(1, 1), (4, 4), (21, 33), (22, 30), (160, 160), (5, 400)])
def test_enlarging_is_that_of_torch(size: tuple[int, int]) -> None:
    torch = pytest.importorskip("torch")
    height, width = size
    small = np.random.default_rng(0).random((3, -(-height // 4), -(-width // 4)), np.float32)
    expected = torch.nn.functional.interpolate(
        torch.from_numpy(small)[None], scale_factor=4, mode="bilinear", align_corners=False
    )[0, :, :height, :width]
    assert enlarge(small, height, width).dtype == np.float32
    np.testing.assert_allclose(enlarge(small, height, width), expected.numpy(), atol=1e-6)


def test_enlarging_refuses_a_size_that_does_not_fit() -> None:
    for height, width in [(8, 9), (4, 4), (8, 4)]:
        with pytest.raises(ValueError, match="cannot be enlarged"):
            enlarge(np.zeros((1, 2, 2), np.float32), height, width)
