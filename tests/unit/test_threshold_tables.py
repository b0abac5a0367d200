"""Thresholds of classes and images: rules that choose them, files that hold them, masks made by them."""

from pathlib import Path

import numpy as np
import pytest

from tools import threshold_baselines as baselines
from workflow_scripts.doors.threshold_rule import ThresholdRule
from workflow_scripts.errors import InputError
from workflow_scripts.evaluation.activation_statistics import ActivationStatistics
from workflow_scripts.evaluation.threshold_sweep import even_thresholds
from workflow_scripts.refinement.thresholding import local_labels, refined_labels
from workflow_scripts.settings.refinement import ParSettings, PseudoMaskSettings
from workflow_scripts.storage.chosen_thresholds import ChosenThresholds, read_thresholds
from workflow_scripts.threshold_rules.consensus import maximum_entropy, otsu
from workflow_scripts.threshold_rules.entropy import Entropy
from workflow_scripts.threshold_rules.shrunken import Shrunken

GRID = even_thresholds(0.01)
MAPS = np.array(
    [[[0.9, 0.4, 0.2], [0.3, 0.1, 0.5]], [[0.1, 0.5, 0.3], [0.2, 0.6, 0.4]]], np.float32
)


def test_each_channel_has_its_threshold() -> None:
    expected = [[1, 0, 0], [1, 2, 1]]
    assert local_labels(MAPS, np.array([0.25, 0.55])).tolist() == expected
    assert local_labels(MAPS, np.array([0.3, 0.3])).tolist() == local_labels(MAPS, 0.3).tolist()
    assert local_labels(MAPS[:0], np.zeros(0)).tolist() == [[0, 0, 0], [0, 0, 0]]


@pytest.mark.parametrize("refinement", ["none", "par"])
def test_refinements_follow_the_table(refinement: str) -> None:
    how = PseudoMaskSettings(refinement=refinement, par=ParSettings(iterations=0))
    image = np.zeros((2, 3, 3), np.uint8)
    table, number = refined_labels(image, MAPS, (np.array([0.25, 0.55]), 0.25), how)
    assert table.tolist() == [[1, 0, 0], [1, 2, 1]]
    assert number.tolist() == [[1, 2, 2], [1, 2, 1]]


def test_the_file_says_what_holds_for_each_image_and_class(tmp_path: Path) -> None:
    chosen = ChosenThresholds.around(0.4, "mine", 0.1, {"mine": 0.4})
    chosen = chosen.with_tables({"dog": 0.6}, {"a": 0.3})
    chosen.write(tmp_path / "thresholds.json")
    assert read_thresholds(tmp_path / "thresholds.json") == chosen
    classes = ("cat", "dog")
    assert chosen.of("a", (1, 2), classes).tolist() == [0.3, 0.3]
    for other in ("b", None):
        assert chosen.of(other, (1, 2), classes).tolist() == [0.4, 0.6]
    (tmp_path / "thresholds.json").write_text(
        (tmp_path / "thresholds.json").read_text().replace("0.6", "1.6")
    )
    with pytest.raises(InputError, match=r"threshold 1\.6 does not lie between 0 and 1"):
        read_thresholds(tmp_path / "thresholds.json")


def two_modes(low: float, high: float, share: float, pixels: int = 4000) -> np.ndarray:
    """A histogram of values around two means, the higher with a share of the pixels."""
    random = np.random.default_rng(0)
    values = np.concatenate([
        random.normal(low, 0.05, round((1 - share) * pixels)),
        random.normal(high, 0.05, round(share * pixels)),
    ]).clip(0, 1)  # fmt: skip
    return np.bincount(np.searchsorted(GRID, values), minlength=len(GRID) + 1)


def gathered() -> ActivationStatistics:
    statistics = ActivationStatistics(3, GRID)
    statistics.counts[1] = two_modes(0.2, 0.6, 0.4)
    statistics.counts[2] = two_modes(0.4, 0.8, 0.4, 8000)
    statistics.images[1:3] = 1, 50
    return statistics


def test_a_class_of_few_images_stays_with_all() -> None:
    statistics = gathered()
    every = Shrunken().choose(statistics, ())
    found = Shrunken().of_classes(statistics, every)
    assert found.keys() == {1, 2}
    own = [maximum_entropy(_alone(statistics.counts[number])) for number in (1, 2)]
    assert abs(found[2] - own[1]) < abs(found[1] - own[0])
    assert abs(found[1] - every) <= abs(own[0] - every)


def _alone(counts: np.ndarray) -> ActivationStatistics:
    statistics = ActivationStatistics(1, GRID)
    statistics.counts[1] = counts
    return statistics


def test_an_image_moves_towards_its_own_threshold() -> None:
    statistics = gathered()
    every = Shrunken().choose(statistics, ())
    counts = two_modes(0.1, 0.4, 0.3)
    found = Shrunken().of_image(counts, statistics, every)
    own = maximum_entropy(_alone(counts))
    assert min(own, every) <= found <= max(own, every)
    one_value = np.zeros(len(GRID) + 1, np.int64)
    one_value[30] = 100
    assert Shrunken().of_image(one_value, statistics, every) == pytest.approx(every)


def test_entropy_is_kapurs() -> None:
    assert Entropy().choose(gathered(), ()) == maximum_entropy(gathered())


BASELINES = [
    found
    for found in vars(baselines).values()
    if isinstance(found, type) and found.__module__ == baselines.__name__
]


@pytest.mark.parametrize("rule", BASELINES)
def test_baselines_choose_a_threshold_between_two_modes(rule: type[ThresholdRule]) -> None:
    statistics = _alone(two_modes(0.2, 0.7, 0.4))
    found = rule().choose(statistics, ())
    assert 0.1 < found < 0.7
    if rule.by_image:
        assert rule().of_image(two_modes(0.2, 0.7, 0.4), statistics, found) == found


def test_baselines_by_hand() -> None:
    """(1 − t)^10 = t; FreeMatch scales the mean by the class's mean; a mixture finds its three means."""
    t = baselines.ClipEs().choose(gathered(), ())
    assert (1 - t) ** 10 == pytest.approx(t, abs=1e-4)
    statistics = gathered()
    rule = baselines.Freematch()
    every = rule.choose(statistics, ())
    means = [0.6 * 0.2 + 0.4 * 0.6, 0.6 * 0.4 + 0.4 * 0.8]
    assert every == pytest.approx((means[0] + 2 * means[1]) / 3, abs=0.01)
    assert rule.of_classes(statistics, every)[2] == pytest.approx(every)
    assert rule.of_classes(statistics, every)[1] == pytest.approx(
        every * means[0] / means[1], abs=0.01
    )
    three = two_modes(0.1, 0.5, 0.3) + two_modes(0.9, 0.9, 0.5, 1000)
    found, _, shares = baselines.mixture(baselines.centres(GRID), three)
    assert np.allclose(found, [0.1, 0.5, 0.9], atol=0.03) and shares.sum() == pytest.approx(1)
    assert baselines.Otsu().choose(statistics, ()) == otsu(statistics)


def test_an_image_of_one_activation_has_the_threshold_of_all() -> None:
    counts = np.zeros(len(GRID) + 1, np.int64)
    counts[30] = 100
    rule = baselines.OtsuPerImage()
    assert rule.of_image(counts, gathered(), 0.4) is None
    assert rule.of_image(np.zeros_like(counts), gathered(), 0.4) is None
    counts[60] = 1
    assert 0 < rule.of_image(counts, gathered(), 0.4) < 1
