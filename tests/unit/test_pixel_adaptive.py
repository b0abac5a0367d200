"""Pixel-adaptive refinement against the published formulas, written plainly in numpy."""

import numpy as np
import pytest
import torch

from workflow_scripts.refinement import pixel_adaptive
from workflow_scripts.refinement.pixel_adaptive import refine, refined_by_par
from workflow_scripts.refinement.thresholding import local_labels, refined_labels
from workflow_scripts.settings.refinement import ParSettings, PseudoMaskSettings

SMALL = ParSettings(dilations=(1, 2, 4), iterations=3)


def plain(image: np.ndarray, maps: np.ndarray, settings: ParSettings) -> np.ndarray:
    """The formulas pixel by pixel: image [H, W, 3], maps [L, H, W]."""
    height, width = image.shape[:2]
    offsets = [
        (d * y, d * x) for d in settings.dilations for y in (-1, 0, 1) for x in (-1, 0, 1) if y or x
    ]
    distance = np.array([np.hypot(y, x) for y, x in offsets])
    by_place = np.exp(-((distance / distance.std(ddof=1) / settings.w1) ** 2))
    by_place /= by_place.sum()
    places, weights = {}, {}
    for y in range(height):
        for x in range(width):
            rows = np.clip([y + dy for dy, _ in offsets], 0, height - 1)
            columns = np.clip([x + dx for _, dx in offsets], 0, width - 1)
            near = image[rows, columns].astype(np.float64)
            deviation = near.std(axis=0, ddof=1) + 1e-8
            exponent = -(((near - image[y, x]) / deviation / settings.w1) ** 2).mean(axis=1)
            by_colour = np.exp(exponent - exponent.max())
            places[y, x] = rows, columns
            weights[y, x] = by_colour / by_colour.sum() + settings.w2 * by_place
    for _ in range(settings.iterations):
        following = np.empty_like(maps)
        for (y, x), (rows, columns) in places.items():
            following[:, y, x] = maps[:, rows, columns] @ weights[y, x]
        maps = following
    return maps


def example(height: int, width: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    return random.integers(0, 256, (height, width, 3)), random.random((2, height, width))


def torch_refined(image: np.ndarray, maps: np.ndarray, settings: ParSettings) -> np.ndarray:
    images = torch.from_numpy(image).permute(2, 0, 1)[None].float()
    return refine(images, torch.from_numpy(maps)[None].float(), settings)[0].numpy()


@pytest.mark.parametrize("settings", [SMALL, ParSettings(iterations=2)])
def test_it_equals_the_plain_formulas(settings: ParSettings) -> None:
    image, maps = example(17, 23)
    image[:6, :6] = 80  # no deviation at all
    found = torch_refined(image, maps, settings)
    assert np.abs(found - plain(image, maps, settings)).max() < 1e-4


def test_images_of_a_batch_do_not_see_each_other() -> None:
    pairs = [example(12, 15, seed) for seed in range(3)]
    images = torch.stack([torch.from_numpy(i).permute(2, 0, 1).float() for i, _ in pairs])
    maps = torch.stack([torch.from_numpy(m).float() for _, m in pairs])
    together = refine(images, maps, SMALL).numpy()
    for found, (image, own) in zip(together, pairs, strict=True):
        assert np.allclose(found, torch_refined(image, own, SMALL), atol=1e-6)


@pytest.mark.parametrize(("height", "width", "pixels"), [(101, 9, 9 * 50), (70, 90, 48 * 48)])
def test_parts_of_a_large_image_give_the_same(
    height: int, width: int, pixels: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    image, maps = example(height, width)
    whole = torch_refined(image, maps, SMALL)
    monkeypatch.setattr(pixel_adaptive, "PART_PIXELS", pixels)
    seen = []
    whole_part = pixel_adaptive._refine
    monkeypatch.setattr(
        pixel_adaptive, "_refine", lambda *given: seen.append(given[1].shape) or whole_part(*given)
    )
    assert np.allclose(torch_refined(image, maps, SMALL), whole, rtol=0, atol=1e-6)
    assert len(seen) > 1 and max(h * w for *_, h, w in seen) <= pixels


@pytest.mark.parametrize("width", [400, 1000, 1500, 2185, 4000, 12000])
def test_what_is_computed_is_not_much_more_than_what_is_kept(width: int) -> None:
    """With the published constants, whose values travel 240 pixels."""
    pixels, reach = pixel_adaptive.PART_PIXELS, 240
    rows, columns = pixel_adaptive._parts(3000, width, pixels, reach)
    seen = (rows + 2 * reach) * min(width, columns + 2 * reach)
    assert seen <= pixels
    assert seen <= 4 * rows * min(width, columns)


@pytest.mark.parametrize("cached", [1, 2 * 15 * 5, 1 << 30])
def test_bands_that_a_cache_holds_change_nothing(
    cached: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    image, maps = example(12, 15)
    expected = plain(image, maps, SMALL)
    monkeypatch.setattr(pixel_adaptive, "CACHED", cached)
    assert np.abs(torch_refined(image, maps, SMALL) - expected).max() < 1e-4


def test_labels_are_those_of_the_refined_softmax() -> None:
    """Of all labels, the background among them, written out for each threshold."""
    image, activations = example(14, 18)
    thresholds = (0.2, 0.45, np.array([0.3, 0.6]))
    found = refined_by_par(image.astype(np.uint8), activations, thresholds, SMALL)
    for labels, threshold in zip(found, thresholds, strict=True):
        background = np.broadcast_to(np.asarray(threshold), (2,))[activations.argmax(0)]
        scores = np.exp(np.concatenate([background[None], activations]))
        expected = plain(image, scores / scores.sum(axis=0), SMALL).argmax(axis=0)
        assert np.array_equal(labels, expected)


@pytest.mark.parametrize("iterations", [0, 3, 10])
def test_what_equals_its_threshold_is_background(iterations: int) -> None:
    image, _ = example(20, 20)
    flat = np.full((2, 20, 20), 0.5, np.float32)
    flat[1] = 0.25
    settings = ParSettings(iterations=iterations)
    found = refined_by_par(image.astype(np.uint8), flat, (0.5, 0.49), settings)
    assert not found[0].any() and (found[1] == 1).all()


def test_without_iterations_labels_are_the_thresholded_ones() -> None:
    image, activations = example(20, 20)
    activations = np.round(activations * 16).astype(np.float32) / 16
    image, how = image.astype(np.uint8), ParSettings(iterations=0)
    for threshold in (0.25, 0.5):
        (found,) = refined_by_par(image, activations, (threshold,), how)
        assert np.array_equal(found, local_labels(activations, threshold))


def test_without_labels_all_is_background() -> None:
    image, _ = example(6, 5)
    found = refined_by_par(image.astype(np.uint8), np.zeros((0, 6, 5)), (0.5, 0.6), SMALL)
    assert found.shape == (2, 6, 5) and not found.any()


def test_sums_that_no_number_holds_are_refused() -> None:
    with pytest.raises(ValueError, match="lower one of them"):
        ParSettings(iterations=200, w2=100)


def test_no_iterations_leave_the_maps_alone() -> None:
    image, maps = example(5, 6)
    assert np.allclose(torch_refined(image, maps, ParSettings(iterations=0)), maps)


def test_it_moves_labels_onto_the_edge_of_the_image() -> None:
    image = np.full((40, 40, 3), 220, np.uint8)
    image[10:30, 10:30] = 30
    activation = np.zeros((1, 40, 40), np.float32)
    activation[0, 8:32, 8:32] = 0.9
    object_ = np.zeros((40, 40), bool)
    object_[10:30, 10:30] = True
    how = PseudoMaskSettings(refinement="par")
    one, other = refined_labels(image, activation, (0.5, 0.4), how)
    assert ((one == 1) == object_).mean() > 0.97
    assert ((local_labels(activation, 0.5) == 1) == object_).mean() < 0.9
    assert np.array_equal(other, refined_labels(image, activation, (0.4,), how)[0])
