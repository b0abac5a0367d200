import io
import pickle
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from workflow_scripts.errors import InputError
from workflow_scripts.storage.masks import (
    MaskReader,
    MaskWriter,
    decode_mask,
    encode_mask,
    voc_palette,
)

IDS = ["a b/ü ☂", "2007_000032", "../x.png"]


def masks() -> list[np.ndarray]:
    random = np.random.default_rng(0)
    return [random.choice([0, 1, 20, 255], size).astype("u1") for size in [(3, 5), (1, 1), (40, 7)]]


def write(path: Path) -> None:
    with MaskWriter(path) as writer:
        for image_id, mask in zip(IDS, masks(), strict=True):
            writer.write(image_id, mask)


def test_round_trip(tmp_path: Path) -> None:
    write(tmp_path / "x.zip")
    with MaskReader(tmp_path / "x.zip") as reader:
        assert reader.ids == tuple(IDS)
        for image_id, mask in zip(IDS, masks(), strict=True):
            assert np.array_equal(reader.read(image_id), mask)
    again = pickle.loads(pickle.dumps(MaskReader(tmp_path / "x.zip")))
    assert np.array_equal(again.read(IDS[2]), masks()[2])


def test_an_ordinary_zip_of_indexed_pngs_and_equal_bytes(tmp_path: Path) -> None:
    write(tmp_path / "x.zip")
    write(tmp_path / "y.zip")
    assert (tmp_path / "x.zip").read_bytes() == (tmp_path / "y.zip").read_bytes()
    with zipfile.ZipFile(tmp_path / "x.zip") as archive:
        assert archive.testzip() is None
        assert archive.namelist() == [f"{image_id}.png" for image_id in IDS]
        with Image.open(io.BytesIO(archive.read("2007_000032.png"))) as image:
            assert image.mode == "P"


def test_empty_shard(tmp_path: Path) -> None:
    with MaskWriter(tmp_path / "x.zip"):
        pass
    assert MaskReader(tmp_path / "x.zip").ids == ()


def test_writer_refuses_duplicates_and_other_arrays_and_leaves_nothing(tmp_path: Path) -> None:
    for mask in (np.zeros((2, 2), np.int64), np.zeros((2, 2, 3), np.uint8)):
        with pytest.raises(ValueError, match="uint8"), MaskWriter(tmp_path / "x.zip") as writer:
            writer.write("a", mask)
    with pytest.raises(ValueError, match="twice"), MaskWriter(tmp_path / "x.zip") as writer:
        writer.write("a", np.zeros((2, 2), np.uint8))
        writer.write("a", np.zeros((2, 2), np.uint8))
    assert not list(tmp_path.iterdir())


def test_damaged_files_are_named(tmp_path: Path) -> None:
    path = tmp_path / "x.zip"
    with pytest.raises(InputError, match="cannot be opened"):
        MaskReader(path)
    write(path)
    with pytest.raises(InputError, match="no mask of image 'else'"):
        MaskReader(path).read("else")
    whole = path.read_bytes()
    path.write_bytes(whole[:-30])
    with pytest.raises(InputError, match=r"x\.zip: not a complete mask shard"):
        MaskReader(path)
    path.write_bytes(whole.replace(b"IDAT", b"IDAX"))
    with pytest.raises(InputError, match="is damaged"):
        MaskReader(path).read(IDS[0])


def test_palette_is_that_of_voc() -> None:
    colours = voc_palette()
    assert colours.shape == (256, 3)
    assert colours[[1, 2, 3, 15, 20, 255]].tolist() == [
        [128, 0, 0],
        [0, 128, 0],
        [128, 128, 0],
        [192, 128, 128],
        [0, 64, 128],
        [224, 224, 192],
    ]


def test_decoding_takes_grey_and_refuses_colour() -> None:
    mask = masks()[2]
    buffer = io.BytesIO()
    Image.fromarray(mask).save(buffer, format="PNG")
    assert np.array_equal(decode_mask(buffer.getvalue()), mask)
    buffer = io.BytesIO()
    Image.fromarray(np.zeros((2, 2, 3), np.uint8)).save(buffer, format="PNG")
    with pytest.raises(ValueError, match="RGB"):
        decode_mask(buffer.getvalue())
    with pytest.raises(ValueError, match="not a readable PNG"):
        decode_mask(encode_mask(mask)[:50])
