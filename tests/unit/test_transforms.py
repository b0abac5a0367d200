import numpy as np
import pytest
import torch

from workflow_scripts.datasets.transforms import augment, normalise
from workflow_scripts.models.views import normalised_crops
from workflow_scripts.settings.training import AugmentationSettings

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
UNCHANGED = ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0))


def discs(height: int = 90, width: int = 120) -> tuple[np.ndarray, np.ndarray]:
    """An image whose colour says which class the mask has: red 1, green 2, black background."""
    y, x = np.mgrid[:height, :width]
    mask = np.zeros((height, width), np.uint8)
    mask[(y - 30) ** 2 + (x - 30) ** 2 < 400] = 1
    mask[(y - 55) ** 2 + (x - 85) ** 2 < 600] = 2
    image = np.zeros((height, width, 3), np.uint8)
    image[mask == 1, 0] = image[mask == 2, 1] = 255
    return image, mask


def viewed(image, mask, settings, mean, std, generator) -> tuple[np.ndarray, np.ndarray | None]:
    """A view as a network sees it, float32 [3, S, S], and its mask."""
    crop = augment(image, mask, settings, generator)
    pixels, place = torch.from_numpy(crop.pixels)[None], torch.from_numpy(crop.place)[None]
    return normalised_crops(pixels, place, mean, std)[0].numpy(), crop.mask


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def test_normalisation():
    image = rng().integers(0, 256, (5, 7, 3), dtype=np.uint8)
    expected = ((image / 255 - np.array(MEAN)) / np.array(STD)).transpose(2, 0, 1)
    found = normalise(image, MEAN, STD)
    assert found.dtype == np.float32 and found.flags.c_contiguous
    np.testing.assert_allclose(found, expected, atol=1e-5)


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize(
    ("resize", "span"), [("none", (1, 1)), ("scale", (0.5, 2.0)), ("long_side", (60, 200))]
)
def test_image_and_mask_stay_aligned(seed: int, resize: str, span: tuple[float, float]):
    """Whatever is drawn, the colour of a pixel still says its class; padding is nowhere an object."""
    image, mask = discs()
    settings = AugmentationSettings(resize=resize, resize_range=span, crop=96)
    view, labels = viewed(image, mask, settings, *UNCHANGED, rng(seed))
    assert labels is not None
    seen = np.where(view[0] > 0.5, 1, np.where(view[1] > 0.5, 2, 0))
    inside = labels != 255
    assert (seen[inside] == labels[inside]).mean() > 0.985
    assert not view[:, ~inside].any()


def test_a_crop_of_an_image_left_alone_is_part_of_it():
    image = rng().integers(0, 256, (50, 40, 3), dtype=np.uint8)
    mask = rng(1).integers(0, 3, (50, 40), dtype=np.uint8)
    settings = AugmentationSettings(crop=32, flip=False)
    view, labels = viewed(image, mask, settings, *UNCHANGED, rng(5))
    windows = np.lib.stride_tricks.sliding_window_view(mask, (32, 32))
    (row, column), *others = np.argwhere((windows == labels).all(axis=(2, 3)))
    assert not others
    part = image[row : row + 32, column : column + 32]
    np.testing.assert_allclose(view, part.transpose(2, 0, 1) / 255, atol=1e-6)


def test_a_small_image_is_padded_with_0_and_255():
    image = np.full((20, 30, 3), 200, np.uint8)
    mask = np.ones((20, 30), np.uint8)
    settings = AugmentationSettings(crop=64)
    view, labels = viewed(image, mask, settings, MEAN, STD, rng())
    assert labels is not None
    assert (labels == 1).sum() == 600 and (labels == 255).sum() == 64 * 64 - 600
    assert not view[:, labels == 255].any()
    np.testing.assert_allclose(view[0][labels == 1], (200 / 255 - MEAN[0]) / STD[0], atol=1e-4)


def test_the_place_of_a_small_image_is_random():
    settings = AugmentationSettings(crop=64)
    image = np.full((20, 30, 3), 200, np.uint8)
    views = [viewed(image, None, settings, *UNCHANGED, rng(seed))[0] for seed in range(6)]
    assert len({view.tobytes() for view in views}) > 3


def test_views_are_a_function_of_the_generator():
    image, mask = discs()
    settings = AugmentationSettings(resize="scale", resize_range=(0.5, 1.5), crop=64, colour=0.3)
    first, again, other = (viewed(image, mask, settings, MEAN, STD, rng(s)) for s in (1, 1, 2))
    assert first[0].tobytes() == again[0].tobytes()
    assert first[1].tobytes() == again[1].tobytes()
    assert first[0].tobytes() != other[0].tobytes()


def test_a_mask_does_not_change_what_is_drawn_for_the_image():
    image, mask = discs()
    settings = AugmentationSettings(resize="scale", resize_range=(0.5, 1.5), crop=64, colour=0.3)
    with_mask, _ = viewed(image, mask, settings, MEAN, STD, rng(1))
    without, none = viewed(image, None, settings, MEAN, STD, rng(1))
    assert none is None
    assert with_mask.tobytes() == without.tobytes()


def test_every_other_image_is_mirrored_and_none_without():
    image = np.zeros((32, 32, 3), np.uint8)
    image[:, :16] = 255
    counts = {}
    for flip in (True, False):
        settings = AugmentationSettings(crop=32, flip=flip)
        views = [viewed(image, None, settings, *UNCHANGED, rng(s))[0] for s in range(200)]
        counts[flip] = sum(view[0, 0, 0] == 0 for view in views)
    assert counts[False] == 0
    assert 70 < counts[True] < 130


def test_long_side_is_resized_to_pixels():
    image = np.full((30, 60, 3), 255, np.uint8)
    settings = AugmentationSettings(resize="long_side", resize_range=(40, 40), crop=64)
    view, _ = viewed(image, None, settings, *UNCHANGED, rng())
    lit = view[0] > 0.5
    assert (lit.any(axis=1).sum(), lit.any(axis=0).sum()) == (20, 40)


def test_colour_keeps_values_within_range():
    image = rng().integers(0, 256, (32, 32, 3), dtype=np.uint8)
    settings = AugmentationSettings(crop=32, colour=0.9, flip=False)
    changed = [viewed(image, None, settings, *UNCHANGED, rng(seed))[0] for seed in range(5)]
    assert all(view.min() >= 0 and view.max() <= 1 for view in changed)
    assert len({round(float(view.mean()), 3) for view in changed}) > 1


def test_padding_is_0_and_the_rest_is_normalised_where_a_network_computes():
    rows = rng().integers(0, 256, (3, 8, 8, 3), dtype=np.uint8)
    places = torch.tensor([[0, 8, 0, 8], [2, 5, 1, 7], [0, 1, 7, 8]])
    found = normalised_crops(torch.from_numpy(rows), places, MEAN, STD)
    assert found.is_contiguous(memory_format=torch.channels_last)
    for one, pixels, (top, bottom, left, right) in zip(found, rows, places.tolist(), strict=True):
        expected = np.zeros((3, 8, 8), np.float32)
        inside = slice(top, bottom), slice(left, right)
        expected[(slice(None), *inside)] = normalise(pixels[inside], MEAN, STD)
        assert one.numpy().tobytes() == expected.tobytes()


def test_bytes_stay_bytes_until_colours_change():
    image = rng().integers(0, 256, (40, 40, 3), dtype=np.uint8)
    for colour, kind in ((0.0, np.uint8), (0.2, np.float32)):
        crop = augment(image, None, AugmentationSettings(crop=32, colour=colour), rng())
        assert crop.pixels.dtype == kind and crop.pixels.shape == (32, 32, 3)
