import tracemalloc

import numpy as np
import pytest

from workflow_scripts.evaluation.confusion import Confusion, Evaluation
from workflow_scripts.evaluation.summary import image_counts, paired_difference


def evaluation(error: float, images: int = 40, seed: int = 0) -> Evaluation:
    """Predictions of which a share of pixels is replaced by random classes, the same each time."""
    random = np.random.default_rng(seed)
    total, cells = Confusion.empty(3), {}
    for i in range(images):
        truth = random.integers(0, 4, (8, 8)).astype(np.uint8)
        noise = random.integers(0, 4, (8, 8)).astype(np.uint8)
        prediction = np.where(random.random((8, 8)) < error, noise, truth)
        cells[str(i)] = total.update(truth, prediction).to_cells()
    return Evaluation(("a", "b", "c"), total, cells)


def counts(of: Evaluation) -> np.ndarray:
    return image_counts(of, list(of.images), "wrong")


def test_difference_is_that_of_the_whole_split() -> None:
    good, bad = evaluation(0.2), evaluation(0.4)
    result = paired_difference(counts(bad), counts(good))
    expected = good.total.mean_iou("wrong") - bad.total.mean_iou("wrong")
    assert result.difference == pytest.approx(expected)
    assert result.low < result.difference < result.high
    assert result.significant
    assert result.share_above_zero == 1
    assert (result.images, result.draws) == (40, 1000)


def test_memory_is_that_of_the_counts_not_of_a_matrix_an_image() -> None:
    """With COCO's 80 classes the matrices of its images would take gigabytes."""
    classes = tuple(map(str, range(80)))
    images = {str(i): [[0, 0, 90], [1 + i % 80, 0, 10]] for i in range(300)}
    many = Evaluation(classes, Confusion.empty(80), images)
    tracemalloc.start()
    try:
        found = counts(many)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert found.shape == (300, 3, 81)
    assert found[2].sum(axis=1).tolist() == [90, 100, 100]
    assert peak < 2 * found.nbytes


def test_swapping_methods_mirrors_the_interval() -> None:
    one, two = counts(evaluation(0.30)), counts(evaluation(0.30, seed=2))
    forth, back = paired_difference(one, two), paired_difference(two, one)
    assert forth.difference == pytest.approx(-back.difference)
    assert forth.low == pytest.approx(-back.high)
    assert not forth.significant


def test_a_method_equals_itself_and_the_seed_decides() -> None:
    one, two = counts(evaluation(0.2)), counts(evaluation(0.3))
    same = paired_difference(one, one)
    assert (same.low, same.difference, same.high) == (0, 0, 0)
    assert not same.significant
    assert paired_difference(one, two, seed=3) == paired_difference(one, two, seed=3)
    assert paired_difference(one, two, seed=3) != paired_difference(one, two, seed=4)


def test_interval_covers_as_often_as_it_says() -> None:
    truth = paired_difference(
        counts(evaluation(0.3, 800)), counts(evaluation(0.35, 800, 1)), draws=10
    ).difference
    inside = 0
    for seed in range(25):
        first = counts(evaluation(0.3, 40, 10 + seed))
        second = counts(evaluation(0.35, 40, 100 + seed))
        result = paired_difference(first, second, draws=200, confidence=0.8)
        inside += result.low <= truth <= result.high
    assert 14 <= inside <= 25


def test_what_is_no_pair_is_refused() -> None:
    with pytest.raises(ValueError, match="no pairs"):
        paired_difference(counts(evaluation(0.1, 4)), counts(evaluation(0.1, 5)))
    with pytest.raises(ValueError, match="no pairs"):
        paired_difference(np.zeros((0, 3, 4)), np.zeros((0, 3, 4)))
