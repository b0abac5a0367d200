"""Photographs and masks of all kinds of pixels: read rightly or refused, never black, never changed."""

import struct
import warnings
import zlib
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from PIL import Image, TiffImagePlugin

from workflow_scripts.datasets.images import read_image, read_mask
from workflow_scripts.errors import InputError
from workflow_scripts.storage.masks import encode_mask, voc_palette

GRADIENT = np.linspace(0, 1, 64).reshape(8, 8)


def png(values: np.ndarray, bits: int, colour: int = 0) -> bytes:
    """A PNG of one sample a pixel (grey, or RGB for colour 2), of 1 to 16 bits, written by hand."""
    height, width = values.shape[:2]
    rows = b""
    for row in values.reshape(height, -1):
        if bits == 16:
            data = row.astype(">u2").tobytes()
        else:
            text = "".join(f"{value:0{bits}b}" for value in row)
            text += "0" * (-len(text) % 8)
            data = int(text, 2).to_bytes(len(text) // 8, "big")
        rows += b"\0" + data

    def chunk(kind: bytes, data: bytes) -> bytes:
        checksum = zlib.crc32(kind + data)
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", checksum)

    header = struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, 0)
    parts = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + parts


@pytest.mark.parametrize("white", [255, 1023, 4095, 16383, 65535])
@pytest.mark.parametrize("kind", ["png", "tif", "int32"])
def test_white_of_deep_images_is_that_of_their_bits(tmp_path: Path, white: int, kind: str) -> None:
    values = np.rint(GRADIENT * white)
    path = tmp_path / ("a.png" if kind == "png" else "a.tif")
    Image.fromarray(values.astype(np.int32 if kind == "int32" else np.uint16)).save(path)
    image = read_image(path)
    assert image.shape == (8, 8, 3)
    assert np.abs(image[..., 0] - 255 * GRADIENT).max() <= 1.3
    assert image.max() == 255


@pytest.mark.parametrize("white", [1.0, 255.0, 65535.0])
def test_decimals(tmp_path: Path, white: float) -> None:
    Image.fromarray((GRADIENT * white).astype(np.float32)).save(tmp_path / "a.tif")
    assert np.abs(read_image(tmp_path / "a.tif")[..., 1] - 255 * GRADIENT).max() <= 1.01


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (np.array([[0, np.nan]], np.float32), "not finite"),
        (np.array([[0, np.inf]], np.float32), "not finite"),
        (np.array([[-1, 1]], np.float32), "values from -1 to 1"),
        (np.array([[-5, 200]], np.int32), "values from -5 to 200"),
        (np.array([[0, 70000]], np.int32), "values from 0 to 70000"),
    ],
)
def test_values_without_a_sure_meaning_are_refused(
    tmp_path: Path, values: np.ndarray, message: str
) -> None:
    Image.fromarray(values).save(tmp_path / "a.tif")
    with pytest.raises(InputError, match=message):
        read_image(tmp_path / "a.tif")


def test_colours_of_16_bits(tmp_path: Path) -> None:
    values = np.repeat(np.rint(GRADIENT * 65535)[..., None], 3, axis=2).astype(int)
    (tmp_path / "deep.png").write_bytes(png(values, 16, colour=2))
    assert np.abs(read_image(tmp_path / "deep.png")[..., 0] - 255 * GRADIENT).max() <= 1.01
    (tmp_path / "dim.png").write_bytes(png(values // 16, 16, colour=2))
    with pytest.raises(InputError, match="almost black"):
        read_image(tmp_path / "dim.png")
    (tmp_path / "black.png").write_bytes(png(0 * values, 16, colour=2))
    assert not read_image(tmp_path / "black.png").any()


@pytest.mark.parametrize("mode", ["1", "L", "P", "LA", "RGB", "RGBA", "CMYK", "YCbCr"])
def test_modes(tmp_path: Path, mode: str) -> None:
    grey = Image.fromarray(np.rint(GRADIENT * 255).astype(np.uint8)).convert("RGB")
    path = tmp_path / ("a.tif" if mode in ("CMYK", "YCbCr") else "a.png")
    grey.convert(mode).save(path)
    image = read_image(path)
    assert image.shape == (8, 8, 3)
    assert image.max() > 200
    assert image.min() < 60


ODD_TAGS = {
    "text for a width": {256: "wide"}, "text for a resolution": {282: "high"},
    "negative for an offset": {34665: -7}, "decimal for a width": {257: 3.5},
    "text for interoperability": {40965: "x"}, "bytes": {305: b"\xff\xfe"},
}  # fmt: skip


@pytest.mark.parametrize("tags", ODD_TAGS)
def test_odd_exif_is_no_reason(tmp_path: Path, tags: str) -> None:
    directory = TiffImagePlugin.ImageFileDirectory_v2()
    directory[274] = 6
    for tag, value in ODD_TAGS[tags].items():
        kind = 2 if isinstance(value, str) else 7 if isinstance(value, bytes) else 9
        directory.tagtype[tag] = 12 if isinstance(value, float) else kind
        directory[tag] = value
    exif = b"Exif\0\0II*\0\x08\0\0\0" + directory.tobytes(offset=8)
    pixels = np.zeros((16, 32, 3), np.uint8)
    pixels[:, :16] = 255
    Image.fromarray(pixels).save(tmp_path / "a.jpg", exif=exif)
    image = read_image(tmp_path / "a.jpg")
    assert image.shape == (32, 16, 3)
    assert image[:14].min() > 200


@settings(max_examples=2000, deadline=None)
@given(st.binary(max_size=80), st.booleans())
def test_any_exif_is_read_or_refused(exif: bytes, proper: bool) -> None:
    """One image never ends a command."""
    with TemporaryDirectory() as folder:
        path = Path(folder, "a.jpg")
        head = b"Exif\0\0II*\0\x08\0\0\0" if proper else b""
        Image.new("RGB", (8, 4), "white").save(path, exif=head + exif)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                image = read_image(path)
        except InputError as error:
            assert "a.jpg" in str(error)
        else:
            assert image.shape in ((4, 8, 3), (8, 4, 3))
            assert image.min() > 250


def test_an_image_above_the_limit_says_what_helps(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Image.new("L", (100, 100)).save(tmp_path / "a.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    with pytest.raises(InputError, match=r"too large .*workflow_scripts\.resize_dataset"):
        read_image(tmp_path / "a.png")


@pytest.mark.parametrize("bits", [1, 2, 4, 8, 16])
def test_grey_masks_of_any_depth(tmp_path: Path, bits: int) -> None:
    mask = np.arange(35).reshape(5, 7) % min(2**bits, 21)
    (tmp_path / "a.png").write_bytes(png(mask, bits))
    found = read_mask(tmp_path / "a.png")
    assert found.dtype == np.uint8
    np.testing.assert_array_equal(found, mask)


@pytest.mark.parametrize("mode", ["RGB", "RGBA"])
def test_masks_in_the_colours_that_label_and_predict_write(tmp_path: Path, mode: str) -> None:
    mask = np.arange(256, dtype=np.uint8).reshape(16, 16)
    (tmp_path / "indexed.png").write_bytes(encode_mask(mask))
    Image.open(tmp_path / "indexed.png").convert(mode).save(tmp_path / "a.png")
    np.testing.assert_array_equal(read_mask(tmp_path / "a.png"), mask)


def test_grey_colours_are_numbers_unless_the_palette_has_them(tmp_path: Path) -> None:
    mask = np.array([[0, 1, 2, 255]], np.uint8)
    Image.fromarray(mask).convert("RGB").save(tmp_path / "a.png")
    np.testing.assert_array_equal(read_mask(tmp_path / "a.png"), mask)


@pytest.mark.parametrize(
    ("mode", "colour", "message"),
    [
        ("RGB", (1, 2, 3), "none of VOC's palette"), ("RGBA", (128, 0, 0, 7), "transparent colours"),
        ("LA", (1, 255), "grey with transparency"), ("CMYK", (0, 1, 2, 3), "mode CMYK"),
        ("F", 0.5, "no class numbers"), ("I", 300, "no class numbers"), ("I;16", 700, "no class"),
    ],
)  # fmt: skip
def test_masks_without_a_meaning_are_refused(
    tmp_path: Path, mode: str, colour: object, message: str
) -> None:
    Image.new(mode, (2, 2), colour).save(tmp_path / "a.tif")  # type: ignore[arg-type]
    with pytest.raises(InputError, match=message) as refused:
        read_mask(tmp_path / "a.tif")
    assert "Save masks as indexed PNG" in str(refused.value)


@pytest.mark.parametrize("spare", [0, 1, 3])
def test_renumbered_indices_are_noticed(tmp_path: Path, spare: int) -> None:
    """As ImageMagick 6 writes a mask of the classes 0, 3 and 15."""
    image = Image.fromarray(np.array([[0, 1, 2]], np.uint8)).convert("P")
    colours = [*voc_palette()[[0, 3, 15]].ravel(), *[255] * 3 * spare]
    image.putpalette(bytes(colours))
    image.save(tmp_path / "a.png", bits=4 if spare > 1 else 2)
    if len(Image.open(tmp_path / "a.png").getpalette() or ()) == 768:
        pytest.skip("Pillow wrote a full palette")
    with pytest.raises(InputError, match="0, 1, 2 have the colours of VOC's classes 0, 3, 15"):
        read_mask(tmp_path / "a.png")


def test_palettes_of_other_colours_keep_their_indices(tmp_path: Path) -> None:
    mask = np.array([[0, 1, 2]], np.uint8)
    image = Image.fromarray(mask).convert("P")
    image.putpalette(bytes([0, 0, 0, 255, 0, 0, 0, 255, 0]))
    image.save(tmp_path / "a.png")
    np.testing.assert_array_equal(read_mask(tmp_path / "a.png"), mask)


CLASSES = st.integers(0, 20) | st.just(255)
MASKS = arrays(np.uint8, array_shapes(min_dims=2, max_dims=2, max_side=5), elements=CLASSES)


@settings(max_examples=2000, deadline=None)
@given(
    MASKS, st.sampled_from(["indexed", "grey", "RGB", "RGBA", "uint16", "int32", "float", "bits"])
)
def test_a_mask_means_the_same_in_whatever_kind_it_is_saved(mask: np.ndarray, kind: str) -> None:
    with TemporaryDirectory() as folder:
        path = Path(folder, "a.tif" if kind in ("int32", "float") else "a.png")
        if kind in ("indexed", "RGB", "RGBA"):
            path.write_bytes(encode_mask(mask))
            if kind != "indexed":
                with Image.open(path) as opened:
                    coloured = opened.convert(kind)
                coloured.save(path)
        elif kind == "bits":
            bits = next(n for n in (1, 2, 4, 8) if mask.max() < 2**n)
            path.write_bytes(png(mask, bits))
        else:
            types = {"grey": np.uint8, "uint16": np.uint16, "int32": np.int32, "float": np.float32}
            Image.fromarray(mask.astype(types[kind])).save(path)
        np.testing.assert_array_equal(read_mask(path), mask)


@settings(max_examples=2000, deadline=None)
@given(
    arrays(
        np.uint8, st.tuples(st.integers(1, 3), st.integers(1, 3), st.sampled_from([1, 2, 3, 4]))
    ),
    st.booleans(),
)
def test_any_picture_is_a_mask_or_refused(pixels: np.ndarray, few: bool) -> None:
    if few:
        pixels = voc_palette()[pixels[..., 0] % 4].astype(np.uint8)
    with TemporaryDirectory() as folder:
        path = Path(folder, "a.png")
        Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels).save(path)
        try:
            mask = read_mask(path)
        except InputError as error:
            assert "a.png" in str(error)
        else:
            assert mask.shape == pixels.shape[:2] and mask.dtype == np.uint8
            if pixels.shape[2] >= 3:
                colours = voc_palette()[mask]
                assert (colours == pixels[..., :3]).all() or (
                    pixels[..., :3] == mask[..., None]
                ).all()
