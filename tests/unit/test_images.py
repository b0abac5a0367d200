from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from workflow_scripts.datasets.images import read_image, read_mask
from workflow_scripts.errors import InputError
from workflow_scripts.storage.masks import encode_mask


def test_exif_orientation_is_applied(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[274] = 6
    pixels = np.zeros((16, 32, 3), np.uint8)
    pixels[:, :16] = 255
    Image.fromarray(pixels).save(tmp_path / "a.jpg", exif=exif, quality=95)
    image = read_image(tmp_path / "a.jpg")
    assert image.shape == (32, 16, 3)
    assert image[:14].min() > 200
    assert image[18:].max() < 50


def test_cmyk_becomes_rgb(tmp_path: Path) -> None:
    Image.new("CMYK", (8, 8), (0, 255, 255, 0)).save(tmp_path / "a.jpg")
    red, green, blue = read_image(tmp_path / "a.jpg")[4, 4].astype(int)
    assert red > 200
    assert green < 60
    assert blue < 60


def test_sixteen_bits_are_reduced_to_eight(tmp_path: Path) -> None:
    values = np.array([[0, 257 * 100], [257 * 200, 65535]], np.uint16)
    Image.fromarray(values).save(tmp_path / "a.png")
    image = read_image(tmp_path / "a.png")
    assert image.dtype == np.uint8
    assert image[..., 0].tolist() == [[0, 100], [200, 255]]
    assert (image[..., 0] == image[..., 2]).all()


def test_transparent_parts_lie_on_white(tmp_path: Path) -> None:
    pixels = np.zeros((1, 3, 4), np.uint8)
    pixels[0, :, 3] = 0, 255, 127
    Image.fromarray(pixels).save(tmp_path / "a.png")
    assert read_image(tmp_path / "a.png")[0, :, 0].tolist() == [255, 0, 128]


def test_grey_palette_and_its_transparency(tmp_path: Path) -> None:
    Image.new("L", (2, 2), 77).save(tmp_path / "grey.png")
    assert (read_image(tmp_path / "grey.png") == 77).all()
    palette = Image.new("P", (2, 2), 1)
    palette.putpalette([0, 0, 0, 10, 20, 30])
    palette.save(tmp_path / "opaque.png")
    assert read_image(tmp_path / "opaque.png")[0, 0].tolist() == [10, 20, 30]
    palette.save(tmp_path / "clear.png", transparency=1)
    assert (read_image(tmp_path / "clear.png") == 255).all()


def test_result_can_be_written_to(tmp_path: Path) -> None:
    Image.new("RGB", (2, 2)).save(tmp_path / "a.png")
    read_image(tmp_path / "a.png")[0, 0] = 1


@pytest.mark.parametrize("suffix", ["jpg", "png", "webp"])
def test_truncated_images_are_refused_by_name(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"photo.{suffix}"
    noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)
    Image.fromarray(noise).save(path)
    path.write_bytes(path.read_bytes()[:-600])
    with pytest.raises(InputError, match=rf"photo\.{suffix}: not a readable image, or truncated"):
        read_image(path)


def test_other_files_and_missing_ones_are_refused_by_name(tmp_path: Path) -> None:
    path = tmp_path / "photo.jpg"
    with pytest.raises(InputError, match=r"photo\.jpg: no such image"):
        read_image(path)
    for content in (b"", b"<html>404</html>"):
        path.write_bytes(content)
        with pytest.raises(InputError, match=r"photo\.jpg: not a readable image"):
            read_image(path)


def test_masks_are_read_as_they_were_written(tmp_path: Path) -> None:
    mask = np.array([[0, 1, 20], [255, 2, 0]], np.uint8)
    (tmp_path / "indexed.png").write_bytes(encode_mask(mask))
    Image.fromarray(mask).save(tmp_path / "grey.png")
    for name in ("indexed.png", "grey.png"):
        assert (read_mask(tmp_path / name) == mask).all()


def test_coloured_masks_are_refused(tmp_path: Path) -> None:
    Image.new("RGB", (2, 2), (1, 2, 3)).save(tmp_path / "mask.png")
    with pytest.raises(
        InputError, match=r"mask\.png: the mask's colour \(1, 2, 3\) is none of VOC's"
    ):
        read_mask(tmp_path / "mask.png")
