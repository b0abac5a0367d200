from pathlib import Path

import numpy as np
import pytest

from workflow_scripts.datasets.index import ImageRecord
from workflow_scripts.refine_seeds import warn_if_degenerate
from workflow_scripts.refinement.thresholding import (
    confident_seed,
    dataset_labels,
    local_labels,
    refined_labels,
    seed_labels,
)
from workflow_scripts.settings.refinement import CrfSettings, SeedSettings

ACTIVATIONS = np.array(
    [[[0.9, 0.4, 0.2], [0.04, 0.3, 0.31]], [[0.8, 0.5, 0.1], [0.05, 0.3, 0.30]]], np.float32
)


def test_thresholding_by_hand():
    """A value equal to the threshold is background; of equal classes the first wins."""
    assert local_labels(ACTIVATIONS, 0.30).tolist() == [[1, 2, 0], [0, 0, 1]]
    assert local_labels(ACTIVATIONS, 0.05).tolist() == [[1, 2, 1], [0, 1, 1]]
    assert local_labels(ACTIVATIONS[:0], 0.5).tolist() == [[0, 0, 0], [0, 0, 0]]


def test_the_seed_rule_by_hand():
    """A class where the foreground pass names one, 0 where both passes say so, 255 elsewhere."""
    foreground = np.array([[1, 2, 0], [0, 0, 1], [2, 0, 1]], np.uint8)
    background = np.array([[1, 2, 1], [0, 1, 1], [0, 2, 2]], np.uint8)
    expected = [[1, 2, 255], [0, 255, 1], [2, 255, 1]]
    assert confident_seed(foreground, background).tolist() == expected


def test_channels_become_class_numbers_and_255_stays():
    labels = (3, 7)
    record = ImageRecord("a", Path("a.jpg"), 3, 1, "train", labels, None)
    seed = np.array([[0, 1, 2, 255]], np.uint8)
    assert dataset_labels(seed[:, :3], labels).tolist() == [[0, 3, 7]]
    found = seed_labels(seed, record.labels)
    assert found.tolist() == [[0, 3, 7, 255]] and found.dtype == np.uint8


def test_an_image_without_labels_is_background():
    record = ImageRecord("a", Path("a.jpg"), 3, 2, "train", (), None)
    image = np.zeros((2, 3, 3), np.uint8)
    passes = refined_labels(image, ACTIVATIONS[:0], (0.3, 0.05), SeedSettings())
    found = seed_labels(confident_seed(*passes), record.labels)
    assert found.tolist() == [[0, 0, 0], [0, 0, 0]]


def test_a_crf_of_no_iterations_leaves_the_thresholds_alone():
    image = np.zeros((2, 3, 3), np.uint8)
    found = refined_labels(
        image, ACTIVATIONS, (0.3, 0.05), SeedSettings(crf=CrfSettings(iterations=0))
    )
    for labels, threshold in zip(found, (0.3, 0.05), strict=True):
        assert labels.tolist() == local_labels(ACTIVATIONS, threshold).tolist()


def test_the_crf_moves_labels_onto_the_edge_of_the_image():
    """An activation that is a little too wide shrinks to the dark object it covers."""
    image = np.full((40, 40, 3), 220, np.uint8)
    image[10:30, 10:30] = 30
    activation = np.zeros((1, 40, 40), np.float32)
    activation[0, 8:32, 8:32] = 0.9
    object_ = np.zeros((40, 40), bool)
    object_[10:30, 10:30] = True
    (labels,) = refined_labels(image, activation, (0.5,), SeedSettings())
    assert ((labels == 1) == object_).mean() > 0.99


@pytest.mark.parametrize(
    ("shares", "chosen_by", "advice"),
    [
        ({"background": 0.01, "foreground": 0.5}, None, "raise background_threshold (now 0.05)"),
        ({"background": 0.5, "foreground": 0.0}, None, "lower foreground_threshold (now 0.3)"),
        (
            {"background": 0.5, "foreground": 0.0},
            "auto",
            "lower foreground_threshold (now 0.3, chosen by `auto`; give a number)",
        ),
        ({"background": 0.5, "foreground": 0.2}, "auto", ""),
    ],
)
def test_degenerate_seeds_are_warned_of(
    shares: dict[str, float],
    chosen_by: str | None,
    advice: str,
    caplog: pytest.LogCaptureFixture,
):
    warn_if_degenerate(shares, (0.3, 0.05), chosen_by)
    assert advice in caplog.text
    assert bool(caplog.text) is bool(advice)
