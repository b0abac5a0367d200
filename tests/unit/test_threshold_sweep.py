import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from workflow_scripts.errors import InputError
from workflow_scripts.evaluation.confusion import Confusion
from workflow_scripts.evaluation.threshold_sweep import (
    RefinedSweep,
    Sweeps,
    ThresholdSweep,
    even_thresholds,
    merge_shards,
    read_sweeps,
    write_sweeps,
)
from workflow_scripts.refinement.thresholding import dataset_labels, local_labels

CLASSES = 6
THRESHOLDS = even_thresholds(0.05)
Scene = tuple[str, np.ndarray, tuple[int, ...], np.ndarray]


def scenes(number: int = 12, seed: int = 0) -> list[Scene]:
    """Odd sizes, images without labels, wrong labels, values that tie with thresholds."""
    random = np.random.default_rng(seed)
    made = []
    for i in range(number):
        height, width = random.integers(1, 40, 2)
        labels = tuple(
            sorted(random.choice(np.arange(1, CLASSES + 1), i % 4, replace=False).tolist())
        )
        shape = (len(labels), height, width)
        activation = random.random(shape)
        if i % 3 == 1:
            activation = random.choice([0, 0.025, 0.5, 0.525, 1], shape)
        truth = random.choice([0, 0, *labels, 5, 255], (height, width)).astype(np.uint8)
        made.append((f"ü {i}/x", activation.astype("f2").astype("f4"), labels, truth))
    return made


def swept(images: Sequence[Scene], thresholds: np.ndarray = THRESHOLDS) -> ThresholdSweep:
    sweep = ThresholdSweep(CLASSES, thresholds)
    for image in images:
        sweep.update(*image)
    return sweep


def label_map(activation: np.ndarray, labels: Sequence[int], threshold: float) -> np.ndarray:
    return dataset_labels(local_labels(activation, threshold), labels)


def thresholded(image: Scene, thresholds: Sequence[float] | np.ndarray) -> list[np.ndarray]:
    _, activation, labels, _ = image
    return [label_map(activation, labels, threshold) for threshold in thresholds]


@pytest.mark.parametrize(
    "thresholds",
    [THRESHOLDS, even_thresholds(0.01), np.array([0.0, 0.025, 0.5, 1.0]), np.array([])],
)
def test_equals_one_pass_a_threshold(thresholds: np.ndarray) -> None:
    expected = [Confusion.empty(CLASSES) for _ in thresholds]
    for image in scenes():
        for confusion, mask in zip(expected, thresholded(image, thresholds), strict=True):
            confusion.update(image[3], mask)
    found = swept(scenes(), thresholds).confusions()
    assert found.shape == (len(thresholds), CLASSES + 1, CLASSES + 1)
    for counts, confusion in zip(found, expected, strict=True):
        assert np.array_equal(counts, confusion.counts[:, :-1])


def test_image_iou_equals_that_of_each_image_alone() -> None:
    for image, row in zip(scenes(), swept(scenes()).images().iou, strict=True):
        for value, mask in zip(row, thresholded(image, THRESHOLDS), strict=True):
            alone = Confusion.empty(CLASSES)
            alone.update(image[3], mask)
            assert value == pytest.approx(alone.mean_iou("skip"), abs=1e-6, nan_ok=True)


def test_spread_and_gap_follow_their_definitions() -> None:
    figures = swept(scenes()).images()
    for i, (_, activation, labels, truth) in enumerate(scenes()):
        large = activation.astype(np.float64)
        inside = [large[k][truth == label] for k, label in enumerate(labels)]
        spreads = [a.std() / a.mean() for a in inside if len(a) and a.mean() > 0]
        expected = np.mean(spreads) if spreads else math.nan
        assert figures.foreground_cv[i] == pytest.approx(expected, abs=1e-6, nan_ok=True)
        pixels = np.concatenate([np.zeros(0), *inside])
        outside = large.max(axis=0, initial=0)[truth == 0]
        gap = pixels.mean() - outside.mean() if len(pixels) and len(outside) else math.nan
        assert figures.gap[i] == pytest.approx(gap, abs=1e-6, nan_ok=True)


def test_curve_by_hand() -> None:
    sweep = ThresholdSweep(2, np.array([0.25, 0.5, 0.75]))
    truth = np.zeros((4, 4), np.uint8)
    truth[:, 2:] = 1
    sweep.update("a", np.full((1, 4, 4), 0.6, np.float32), (1,), truth)
    curve = sweep.curve()
    np.testing.assert_allclose(curve.miou, [0.25, 0.25, 0.25])
    np.testing.assert_allclose(curve.precision, [0.5, 0.5, 0.5])
    np.testing.assert_allclose(curve.recall, [0.5, 0.5, 0.5])
    assert curve.best == 0
    assert curve.plateau == 1
    assert np.isnan(curve.iou[:, 2]).all()
    assert [a.tolist() for a in sweep.activation_histograms()] == [[0, 0, 8, 0], [0, 0, 8, 0]]
    np.testing.assert_allclose(sweep.images().gap, [0], atol=1e-7)


def test_plateau_is_the_share_within_five_percent_of_the_best() -> None:
    sweep = ThresholdSweep(1, np.array([0.1, 0.4, 0.6, 0.9]))
    truth = np.zeros((4, 8), np.uint8)
    truth[:, :4] = 1
    activation = np.tile(np.linspace(0.8, 0.2, 8, dtype=np.float32), (1, 4, 1))
    sweep.update("a", activation, (1,), truth)
    curve = sweep.curve()
    expected = []
    for threshold in curve.thresholds:
        alone = Confusion.empty(1)
        alone.update(truth, label_map(activation, (1,), threshold))
        expected.append(alone.mean_iou("skip"))
    np.testing.assert_allclose(curve.miou, expected)
    assert curve.plateau == np.mean(np.array(expected) >= 0.95 * max(expected))
    assert curve.miou_at(0.5) == pytest.approx((expected[1] + expected[2]) / 2)


@pytest.mark.parametrize("image", [1, 4])
def test_unknown_truth_is_refused_and_counts_nothing(image: int) -> None:
    sweep = ThresholdSweep(CLASSES, THRESHOLDS)
    image_id, activation, labels, truth = scenes()[image]
    truth[0, 0] = 9
    with pytest.raises(ValueError, match="value 9, which is neither a class"):
        sweep.update(image_id, activation, labels, truth)
    with pytest.raises(ValueError, match="value 9, which is neither a class"):
        sweep.update(image_id, activation[:0], (), truth)
    assert not sweep.counts.any()
    assert sweep.images().ids == ()


def test_activation_and_truth_must_be_of_one_size() -> None:
    image_id, activation, labels, truth = scenes()[1]
    with pytest.raises(ValueError, match="activations for"):
        ThresholdSweep(CLASSES, THRESHOLDS).update(image_id, activation[:, 1:], labels, truth)


def test_thresholds_must_ascend_within_0_and_1() -> None:
    for thresholds in ([0.5, 0.4], [-0.1, 0.5], [0.5, 1.5], [0.5, 0.5]):
        with pytest.raises(ValueError, match="thresholds"):
            ThresholdSweep(1, np.array(thresholds))
    steps = even_thresholds(0.01)
    assert len(steps) == 100
    np.testing.assert_allclose(steps[[0, 1, -1]], [0.005, 0.015, 0.995], rtol=1e-6)


def sweeps_of(images: Sequence[Scene]) -> Sweeps:
    refined = RefinedSweep(CLASSES, [0.3, 0.6])
    for image in images:
        refined.update(image[3], thresholded(image, [0.3, 0.6]))
    return Sweeps(swept(images), refined)


def test_shards_merge_to_the_very_same(tmp_path: Path) -> None:
    images = scenes(20)
    paths = [tmp_path / f"train-{i:02}.safetensors" for i in range(3)]
    for path, part in zip(paths, (images[:7], images[7:7], images[7:]), strict=True):
        write_sweeps(path, sweeps_of(part))
    merged, whole = merge_shards(paths), sweeps_of(images)
    assert merged.plain.images().ids == whole.plain.images().ids
    assert merged.refined is not None
    assert whole.refined is not None
    found = merged.plain.tensors() | merged.refined.tensors()
    for name, expected in (whole.plain.tensors() | whole.refined.tensors()).items():
        assert found[name].dtype == expected.dtype
        assert np.array_equal(found[name], expected, equal_nan=expected.dtype.kind == "f"), name


def test_a_file_says_what_refined_its_masks(tmp_path: Path) -> None:
    paths = [tmp_path / f"{refinement}.safetensors" for refinement in ("par", "crf")]
    for path in paths:
        write_sweeps(path, Sweeps(swept(scenes()), RefinedSweep(CLASSES, [0.3], path.stem)))
        refined = read_sweeps(path).refined
        assert refined is not None and refined.refinement == path.stem
    with pytest.raises(InputError, match="one is refined by par, one by crf"):
        merge_shards(paths)


def test_refined_masks_are_scored_as_given() -> None:
    refined = sweeps_of(scenes()).refined
    assert refined is not None
    plain = swept(scenes(), np.array([0.3, 0.6]))
    assert np.array_equal(refined.counts, plain.confusions())
    np.testing.assert_allclose(refined.image_iou(), plain.images().iou, atol=1e-6)
    with pytest.raises(ValueError, match="1 masks for 2 thresholds"):
        refined.update(np.zeros((1, 1), np.uint8), np.zeros((1, 1, 1), np.uint8))


def test_files_without_refined_masks_and_damaged_ones(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    write_sweeps(path, Sweeps(swept(scenes()), None))
    assert read_sweeps(path).refined is None
    other = tmp_path / "y.safetensors"
    write_sweeps(other, Sweeps(swept(scenes(), np.array([0.5])), None))
    with pytest.raises(InputError, match=r"y\.safetensors: does not fit"):
        merge_shards([path, other])
    path.write_bytes(path.read_bytes()[:100])
    for broken in (path, tmp_path / "missing"):
        with pytest.raises(InputError, match="not a complete threshold sweep"):
            read_sweeps(broken)
