"""Dense CRF against pydensecrf2 (where installed) and the definition."""

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from pydantic import ValidationError

from workflow_scripts.errors import InputError
from workflow_scripts.refinement import lattice
from workflow_scripts.refinement.dense_crf import (
    refine,
    unary_from_labels,
    unary_from_probabilities,
)
from workflow_scripts.settings.refinement import CrfSettings

IRN = CrfSettings()
DEEPLAB = CrfSettings(gaussian_compat=1, bilateral_sxy=67, bilateral_srgb=3, bilateral_compat=4)


def scene(height, width, seed=0, noise=6.0):
    """Shaded discs on a gradient with sensor noise: smooth parts, edges and texture."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width]
    image = np.stack([x * 120 / width + 40, y * 150 / height + 30, 90 + 0 * x], axis=2)
    for _ in range(6):
        cy, cx, r = rng.random(3) * [height, width, max(height, width) / 3]
        disc = (y - cy) ** 2 + (x - cx) ** 2 < r**2
        image[disc] = rng.random(3) * 255 * (0.7 + 0.3 * np.sin(x[disc] / 9))[:, None]
    image += rng.normal(0, noise, image.shape)
    return image.clip(0, 255).astype(np.uint8)


def blobs(height, width, labels, seed=0):
    """Smooth random scores [labels, H, W] that turn into label maps with borders everywhere."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width]
    waves = [
        sum(np.sin(a * x / 40 + b * y / 40 + c) for a, b, c in rng.normal(0, 2, (4, 3)))
        for _ in range(labels)
    ]
    return np.stack(waves)


def oracle(image, unary, settings):
    """Marginals [L, H, W] by pydensecrf2."""
    dcrf = pytest.importorskip("pydensecrf.densecrf")
    labels, height, width = unary.shape
    crf = dcrf.DenseCRF2D(width, height, labels)
    crf.setUnaryEnergy(np.ascontiguousarray(unary.reshape(labels, -1)))
    crf.addPairwiseGaussian(sxy=settings.gaussian_sxy, compat=settings.gaussian_compat)
    crf.addPairwiseBilateral(
        sxy=settings.bilateral_sxy,
        srgb=settings.bilateral_srgb,
        rgbim=np.ascontiguousarray(image),
        compat=settings.bilateral_compat,
    )
    return np.array(crf.inference(settings.iterations)).reshape(unary.shape)


def agreement(a, b):
    return (a.argmax(axis=-3) == b.argmax(axis=-3)).mean()


@pytest.mark.parametrize(
    ("height", "width", "labels", "settings"),
    [
        (94, 125, 3, IRN),
        (81, 67, 2, IRN),
        (61, 127, 21, DEEPLAB),
        (37, 1, 4, IRN),
        (50, 60, 7, IRN),
    ],
)
def test_agrees_with_pydensecrf2_on_structured_images(height, width, labels, settings):
    image = scene(height, width, seed=labels)
    unary = unary_from_labels(blobs(height, width, labels).argmax(0), labels)
    ours, theirs = refine(image, unary, settings), oracle(image, unary, settings)
    assert agreement(ours, theirs) >= 0.999
    assert np.abs(ours - theirs).max() < 0.02


def test_agrees_with_pydensecrf2_on_noise():
    rng = np.random.default_rng(1)
    image = rng.integers(0, 256, (45, 77, 3), dtype=np.uint8)
    unary = rng.random((5, 45, 77)).astype(np.float32) * 4
    assert agreement(refine(image, unary, IRN), oracle(image, unary, IRN)) >= 0.999


def test_more_labels_than_one_table_holds():
    image = scene(24, 31)
    unary = unary_from_labels(blobs(24, 31, 150).argmax(0), 150)
    assert agreement(refine(image, unary, IRN), oracle(image, unary, IRN)) >= 0.999


@pytest.mark.parametrize("off", ["gaussian_compat", "bilateral_compat"])
def test_a_kernel_can_be_turned_off(off):
    image, settings = scene(40, 50), IRN.model_copy(update={off: 0.0})
    unary = unary_from_labels(blobs(40, 50, 3).argmax(0), 3)
    assert agreement(refine(image, unary, settings), oracle(image, unary, settings)) >= 0.999


def test_without_kernels_the_unary_stays():
    settings = CrfSettings(gaussian_compat=0, bilateral_compat=0)
    unary = np.random.default_rng(0).random((3, 9, 8)).astype(np.float32)
    np.testing.assert_allclose(refine(scene(9, 8), unary, settings), softmax(unary), atol=1e-6)


def softmax(unary):
    p = np.exp(-unary.astype(np.float64))
    return p / p.sum(axis=-3, keepdims=True)


def test_problems_solved_together_equal_problems_solved_alone():
    image = scene(41, 53)
    unary = np.stack([unary_from_labels(blobs(41, 53, 3, seed).argmax(0), 3) for seed in range(3)])
    together = refine(image, unary, IRN)
    assert together.shape == unary.shape
    assert together.dtype == np.float32
    alone = np.stack([refine(image, one, IRN) for one in unary])
    np.testing.assert_allclose(together, alone, atol=2e-4)


def test_zero_iterations_give_the_softmax():
    settings = CrfSettings(iterations=0)
    unary = np.random.default_rng(0).normal(0, 30, (2, 3, 13, 17)).astype(np.float32)
    np.testing.assert_allclose(refine(scene(13, 17), unary, settings), softmax(unary), atol=1e-5)


@pytest.mark.parametrize("shape", [(1, 1), (1, 7), (2, 2), (5, 1), (3, 130)])
@pytest.mark.parametrize("labels", [1, 2])
def test_tiny_images_and_one_label(shape, labels):
    unary = np.random.default_rng(0).random((labels, *shape)).astype(np.float32)
    marginals = refine(scene(*shape), unary, IRN)
    np.testing.assert_allclose(marginals.sum(axis=0), 1.0, atol=1e-5)
    if labels > 1:
        assert agreement(marginals, oracle(scene(*shape), unary, IRN)) == 1


def test_constant_image():
    image = np.full((30, 40, 3), 77, np.uint8)
    unary = unary_from_labels(blobs(30, 40, 3).argmax(0), 3)
    assert agreement(refine(image, unary, IRN), oracle(image, unary, IRN)) >= 0.999


def test_unlikely_unaries_stay_finite():
    unary = np.zeros((3, 20, 20), np.float32)
    unary[0, :10], unary[1, 10:] = 1e6, -1e6
    marginals = refine(scene(20, 20), unary, IRN)
    assert np.isfinite(marginals).all()
    assert (marginals[1, 10:] > 0.999).all()


def test_standard_deviations_too_small_for_the_lattice_are_refused(monkeypatch):
    unary = unary_from_labels(blobs(25, 30, 3).argmax(0), 3)
    monkeypatch.setattr(lattice, "KEY_LIMIT", 1)
    settings = IRN.model_copy(update={"gaussian_sxy": 3.0000001})
    with pytest.raises(InputError, match=r"30×25 pixels; give at least 1 for `gaussian_sxy`"):
        refine(scene(25, 30), unary, settings)


def test_extreme_standard_deviations():
    image = scene(30, 40)
    unary = unary_from_labels(blobs(30, 40, 3).argmax(0), 3)
    narrow = CrfSettings(gaussian_sxy=0.1, bilateral_sxy=1, bilateral_srgb=1)
    assert agreement(refine(image, unary, narrow), oracle(image, unary, narrow)) >= 0.999
    broad = CrfSettings(gaussian_sxy=5000, bilateral_sxy=5000, bilateral_srgb=5000)
    assert agreement(refine(image, unary, broad), oracle(image, unary, broad)) >= 0.999


def test_threads_give_the_same_results():
    jobs = [
        (scene(40 + n % 3, 50, seed=n), unary_from_labels(blobs(40 + n % 3, 50, 3, n).argmax(0), 3))
        for n in range(12)
    ]
    alone = [refine(image, unary, IRN) for image, unary in jobs]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(lambda job: refine(*job, IRN), jobs))
    for a, b in zip(alone, together, strict=True):
        np.testing.assert_array_equal(a, b)


def test_input_is_left_alone_and_any_layout_is_read():
    image, unary = scene(20, 31), unary_from_labels(blobs(20, 31, 3).argmax(0), 3)
    strided = np.asfortranarray(image), np.asfortranarray(unary)
    before = unary.copy()
    np.testing.assert_array_equal(refine(*strided, IRN), refine(image, unary, IRN))
    np.testing.assert_array_equal(unary, before)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_refuses_unaries_that_are_not_numbers(bad):
    unary = np.zeros((2, 4, 5), np.float32)
    unary[1, 2, 3] = bad
    with pytest.raises(InputError, match="NaN or infinity"):
        refine(scene(4, 5), unary, IRN)


@pytest.mark.parametrize("shape", [(2, 5, 4), (4, 5), (1, 1, 2, 4, 5), (0, 4, 5)])
def test_refuses_shapes_that_disagree(shape):
    with pytest.raises(InputError, match=r"unary: expected .*\[4, 5, 3\], got \["):
        refine(scene(4, 5), np.zeros(shape, np.float32), IRN)


def test_refuses_images_that_are_not_rgb_bytes():
    unary = np.zeros((2, 4, 5), np.float32)
    with pytest.raises(InputError, match=r"image: expected uint8\[H, W, 3\]"):
        refine(np.zeros((4, 5), np.uint8), unary, IRN)
    with pytest.raises(InputError, match="float64"):
        refine(np.zeros((4, 5, 3)), unary, IRN)


def test_unary_from_labels_equals_pydensecrf2():
    utils = pytest.importorskip("pydensecrf.utils")
    labels = np.random.default_rng(0).integers(0, 4, (6, 7))
    ours = unary_from_labels(labels, 4, 0.7)
    assert ours.dtype == np.float32
    theirs = utils.unary_from_labels(labels, 4, 0.7, zero_unsure=False)
    np.testing.assert_array_equal(ours.reshape(4, -1), theirs)


def test_unary_from_labels_refuses_what_it_cannot_mean():
    with pytest.raises(InputError, match=r"labels: expected values 0…2, got 0…255"):
        unary_from_labels(np.array([[0, 255]]), 3)
    with pytest.raises(InputError, match="gt_prob"):
        unary_from_labels(np.array([[0, 1]]), 2, gt_prob=1.0)


def test_unary_from_probabilities_is_clipped():
    unary = unary_from_probabilities(np.array([[[0.0, 0.25]], [[1.0, 0.75]]]))
    np.testing.assert_allclose(unary[:, 0, 0], [-np.log(1e-5), 0.0], rtol=1e-6)
    np.testing.assert_allclose(unary[:, 0, 1], -np.log([0.25, 0.75]), rtol=1e-6)


def test_settings_are_bounded():
    for bad in ({"iterations": -1}, {"bilateral_srgb": 0}, {"backend": "torch"}, {"sigma": 1}):
        with pytest.raises(ValidationError):
            CrfSettings(**bad)


def test_numba_users_do_not_import_torch():
    code = (
        "import sys, numpy as np\n"
        "from workflow_scripts.refinement.dense_crf import refine\n"
        "from workflow_scripts.settings.refinement import CrfSettings\n"
        "refine(np.zeros((4, 4, 3), np.uint8), np.zeros((2, 4, 4), np.float32), CrfSettings())\n"
        "assert 'torch' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
