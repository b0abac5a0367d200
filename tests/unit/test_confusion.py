import json
import math

import numpy as np
import pytest

from workflow_scripts.evaluation.confusion import Confusion

TRUTH = np.array([[0, 0, 0, 1], [1, 1, 2, 255]], np.uint8)
PREDICTION = np.array([[0, 0, 1, 1], [0, 255, 1, 2]], np.uint8)


def example() -> Confusion:
    matrix = Confusion.empty(3)
    matrix.update(TRUTH, PREDICTION)
    return matrix


def test_counts_by_hand() -> None:
    assert example().counts.tolist() == [
        [2, 1, 0, 0, 0],
        [1, 1, 0, 0, 1],
        [0, 1, 0, 0, 0],
        [0, 0, 0, 0, 0],
    ]


def test_figures_by_hand_under_both_policies() -> None:
    matrix = example()
    np.testing.assert_allclose(matrix.iou("wrong"), [2 / 4, 1 / 5, 0, np.nan])
    np.testing.assert_allclose(matrix.iou("skip"), [2 / 4, 1 / 4, 0, np.nan])
    assert matrix.mean_iou("wrong") == pytest.approx((0.5 + 0.2 + 0) / 3)
    assert matrix.mean_iou("skip") == pytest.approx((0.5 + 0.25 + 0) / 3)
    np.testing.assert_allclose(matrix.precision("wrong"), [2 / 3, 1 / 3, np.nan, np.nan])
    np.testing.assert_allclose(matrix.recall("wrong"), [2 / 3, 1 / 3, 0, np.nan])
    np.testing.assert_allclose(matrix.recall("skip"), [2 / 3, 1 / 2, 0, np.nan])
    assert matrix.pixel_accuracy("wrong") == pytest.approx(3 / 7)
    assert matrix.pixel_accuracy("skip") == pytest.approx(3 / 6)


def test_error_kinds_by_hand() -> None:
    errors = example().errors("wrong")
    assert errors.missed_object == pytest.approx(1 / 7)
    assert errors.leaked_background == pytest.approx(1 / 7)
    assert errors.wrong_class == pytest.approx(1 / 7)
    assert errors.unlabelled == pytest.approx(1 / 7)
    assert example().errors("skip").missed_object == pytest.approx(1 / 6)
    assert example().errors("skip").unlabelled == 0


def test_a_class_predicted_but_never_true_counts_in_the_mean() -> None:
    matrix = Confusion.empty(2)
    matrix.update(np.zeros((1, 4), np.uint8), np.array([[0, 0, 0, 2]], np.uint8))
    np.testing.assert_allclose(matrix.iou("skip"), [3 / 4, np.nan, 0])
    assert matrix.mean_iou("skip") == pytest.approx(3 / 8)


def test_nothing_to_count_is_nan_without_warnings() -> None:
    matrix = Confusion.empty(2)
    matrix.update(np.full((2, 2), 255, np.uint8), np.zeros((2, 2), np.uint8))
    assert math.isnan(matrix.mean_iou("skip"))
    assert math.isnan(matrix.pixel_accuracy("wrong"))
    assert math.isnan(matrix.errors("wrong").missed_object)


def test_update_returns_the_image_alone_and_merge_adds() -> None:
    total = example()
    image = total.update(TRUTH, PREDICTION)
    assert np.array_equal(image.counts, example().counts)
    assert np.array_equal(total.counts, 2 * example().counts)
    total.merge(image)
    assert np.array_equal(total.counts, 3 * example().counts)
    with pytest.raises(ValueError, match="different numbers"):
        total.merge(Confusion.empty(2))


def test_round_trips() -> None:
    matrix = example()
    again = Confusion.from_json(json.loads(json.dumps(matrix.to_json())))
    assert np.array_equal(again.counts, matrix.counts)
    cells = json.loads(json.dumps(matrix.to_cells()))
    assert np.array_equal(Confusion.from_cells(3, cells).counts, matrix.counts)
    with pytest.raises(ValueError, match="counts"):
        Confusion.from_json([[1, 2], [3, 4]])


@pytest.mark.parametrize(("truth", "prediction"), [(7, 0), (0, 4)])
def test_unknown_values_and_other_sizes_are_refused(truth: int, prediction: int) -> None:
    matrix = Confusion.empty(3)
    with pytest.raises(ValueError, match=f"value {truth or prediction}, which is neither"):
        matrix.update(np.full((2, 2), truth, np.uint8), np.full((2, 2), prediction, np.uint8))
    with pytest.raises(ValueError, match="shape"):
        matrix.update(np.zeros((2, 2), np.uint8), np.zeros((2, 3), np.uint8))
    assert not matrix.counts.any()


def test_254_classes_fit() -> None:
    matrix = Confusion.empty(254)
    matrix.update(np.array([[254, 255]], np.uint8), np.array([[254, 1]], np.uint8))
    assert matrix.mean_iou("wrong") == 1
