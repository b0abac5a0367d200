from collections.abc import Iterable, Iterator

import numpy as np
import pytest

from workflow_scripts.errors import InputError
from workflow_scripts.evaluation.activation_statistics import ActivationStatistics, SampledImage
from workflow_scripts.evaluation.threshold_sweep import even_thresholds
from workflow_scripts.refinement.thresholding import dataset_labels, local_labels
from workflow_scripts.storage.activation_maps import reduce
from workflow_scripts.threshold_rules.colours import Colours, ColourSeparation, best_separation
from workflow_scripts.threshold_rules.consensus import (
    Consensus,
    between_class_variance,
    fisher,
    maximum_entropy,
    otsu,
)
from workflow_scripts.threshold_rules.contrast import SHARE_OF_BEST, Contrast, nearest

GRID = even_thresholds(0.01)
Scene = tuple[np.ndarray, tuple[int, ...]]


def scenes(low: float = 0.2, high: float = 0.7, number: int = 6, seed: int = 0) -> list[Scene]:
    """Activations near `low` outside and near `high` inside an object of a quarter of the image."""
    random = np.random.default_rng(seed)
    made = []
    for i in range(number):
        height, width = 37 + i, 50
        labels = ((1,), (1, 3), (2,), ())[i % 4]
        activation = random.normal(low, 0.04, (len(labels), height, width))
        for channel, rows in enumerate((slice(8, 28), slice(28, 40))[: len(labels)]):
            activation[channel, rows, 12:36] = random.normal(
                high, 0.04, activation[0, rows, 12:36].shape
            )
        made.append((activation.clip(0, 1).astype(np.float32), labels))
    return made


def label_map(activation: np.ndarray, labels: tuple[int, ...], threshold: float) -> np.ndarray:
    return dataset_labels(local_labels(activation, threshold), labels)


def statistics(images: list[Scene], thresholds: np.ndarray = GRID) -> ActivationStatistics:
    gathered = ActivationStatistics(3, thresholds)
    for image in images:
        gathered.update(*image)
    return gathered


def test_counts_equal_those_of_full_size_maps() -> None:
    gathered = statistics(scenes())
    expected = np.zeros_like(gathered.counts)
    for activation, labels in scenes():
        height, width = activation.shape[1:]
        for t in range(len(GRID) + 1):
            above = label_map(activation, labels, GRID[t - 1]) if t else np.ones((height, width))
            below = (
                label_map(activation, labels, GRID[t]) if t < len(GRID) else np.zeros_like(above)
            )
            if not labels:
                expected[0, 0] += height * width if t == 0 else 0
            elif t:
                in_bin = (above > 0) & (below == 0)
                expected[:, t] += np.bincount(above[in_bin], minlength=4)
            else:
                winners = np.array(labels)[activation.argmax(axis=0)]
                expected[:, 0] += np.bincount(winners[below == 0], minlength=4)
    assert np.array_equal(gathered.counts, expected)


def test_otsu_equals_the_textbook_formula() -> None:
    gathered = statistics(scenes())
    weight = gathered.counts[1:].sum(axis=0) / gathered.counts[1:].sum()
    centre = (np.concatenate([[0], GRID]) + np.concatenate([GRID, [1]])) / 2
    found = between_class_variance(gathered)
    for t in (20, 45, 60):
        low, high = weight[: t + 1], weight[t + 1 :]
        means = [
            (part * c).sum() / part.sum()
            for part, c in ((low, centre[: t + 1]), (high, centre[t + 1 :]))
        ]
        assert found[t] == pytest.approx(low.sum() * high.sum() * (means[1] - means[0]) ** 2)
    assert 0.3 < otsu(gathered) < 0.6


def separable(side: int = 48, number: int = 6) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Photographs with a coloured square off the middle; activations are 0.5 at its border."""
    random = np.random.default_rng(0)
    y, x = np.mgrid[:side, :side]
    for i in range(number):
        row, column = side / 4 + side / 2 * (i % 2), side / 4
        distance = np.maximum(abs(x + 0.5 - column), abs(y + 0.5 - row))
        image = random.integers(60, 100, (side, side, 3))
        image[distance < side / 4] += (80, 40, i)
        activation = np.clip(1 - 2 * distance / side, 0, 1)
        yield image.astype(np.uint8), activation[None].astype(np.float32)


def separation_of(images: Iterable[tuple[np.ndarray, np.ndarray]]) -> ColourSeparation:
    separation = ColourSeparation(GRID)
    for image, activation in images:
        separation.update(image, activation)
    return separation


def test_colours_are_separated_best_at_the_objects_border() -> None:
    separation = separation_of(separable())
    assert separation.images == 6
    chosen = best_separation(separation)
    assert chosen is not None
    assert 0.4 < chosen < 0.6


def test_separation_is_the_share_between_the_sides_beyond_that_of_mirror_images() -> None:
    images = list(separable(number=2))
    found = separation_of(images).curve()
    for t in (10, 30, 60):
        shares = []
        for image, activation in images:
            cells = (image / 255).reshape(12, 4, 12, 4, 3).mean(axis=(1, 3))
            cells -= cells.mean(axis=(0, 1))
            above = reduce(activation)[0] > GRID[t]

            def explained(cells: np.ndarray, above: np.ndarray = above) -> float:
                sides = (cells[above], cells[~above])
                between = sum(len(side) * (side.mean(axis=0) ** 2).sum() for side in sides)
                return between / (cells**2).sum()

            turned = (cells[:, ::-1], cells[::-1], cells[::-1, ::-1])
            shares.append((explained(cells), np.mean([explained(other) for other in turned])))
        own, chance = np.mean(shares, axis=0)
        # Pillow rounds the mean of a cell.
        assert found[t] == pytest.approx((own - chance) / (1 - chance), abs=5e-3)


def test_objects_in_the_colours_behind_them_choose_nothing() -> None:
    noise = np.random.default_rng(1).integers(60, 100, (6, 48, 48, 3)).astype(np.uint8)
    plain = [(image, activation) for image, (_, activation) in zip(noise, separable(), strict=True)]
    assert best_separation(separation_of(plain)) is None
    assert (
        best_separation(separation_of([(np.full((48, 48, 3), 90, np.uint8), plain[0][1])])) is None
    )
    assert best_separation(separation_of([])) is None


def excess_of(image: np.ndarray, activation: np.ndarray) -> np.ndarray:
    """Explained share beyond chance of one image, from what all rules are told of it."""
    alone = separation_of([(image, activation)])
    return alone.curve() * (1 - alone._chance)


def test_the_colours_leave_what_is_within_a_standard_error_of_the_best() -> None:
    images = list(separable())
    excess = np.array([excess_of(*one) for one in images])
    separation = separation_of(images)
    best = separation.curve().argmax()
    behind = excess[:, [best]] - excess
    error = behind.std(axis=0, ddof=1) / np.sqrt(len(images))
    expected = behind.mean(axis=0) <= error + 1e-9
    assert (separation.as_good_as_the_best() == expected).all()
    assert expected[best] and 0 < expected.sum() < len(GRID) / 2


@pytest.mark.parametrize("wanted", [0.05, 0.5, 0.95])
def test_contrast_is_the_nearest_of_these(wanted: float) -> None:
    separation = separation_of(separable())
    share = separation.curve()
    possible = separation.as_good_as_the_best() | (share >= SHARE_OF_BEST * share.max())
    found = nearest(separation, wanted)
    assert possible[np.flatnonzero(np.float32(found) == GRID)].all()
    assert abs(found - wanted) == pytest.approx(np.abs(GRID[possible] - wanted).min())


class Separated(ColourSeparation):
    """Images whose separation is given: shares, and which are within a standard error of the best."""

    def __init__(self, share: list[float], within: list[bool]) -> None:
        super().__init__(np.linspace(0.1, 0.9, len(share)))
        self.images, self.share, self.within = 9, np.array(share), np.array(within)

    def curve(self) -> np.ndarray:
        return self.share

    def as_good_as_the_best(self) -> np.ndarray:
        return self.within.copy()


@pytest.mark.parametrize(
    ("share", "within", "expected"),
    [
        ([0.10, 0.40, 0.39, 0.40, 0.10], [False, False, False, True, False], 0.3),
        ([0.10, 0.38, 0.39, 0.40, 0.10], [False, False, False, True, False], 0.5),
        ([0.10, 0.20, 0.20, 0.40, 0.10], [False, True, True, True, False], 0.3),
        ([-0.2, -0.1, -0.3, -0.3, -0.3], [False, True, True, False, False], 0.3),
    ],
)
def test_a_standard_error_or_three_per_cent_is_as_good(share, within, expected) -> None:
    """With many images an error is small, with few it is large: either leaves a threshold in."""
    assert nearest(Separated(share, within), 0.1) == pytest.approx(expected)


def test_contrast_is_otsu_s_threshold_where_colours_say_nothing() -> None:
    gathered = statistics(scenes())
    plain = np.full((48, 48, 3), 90, np.uint8)
    sample = [SampledImage(plain, (1,), activation) for _, activation in separable()]
    assert Contrast().choose(gathered, iter(sample)) == pytest.approx(otsu(gathered))
    assert Contrast().choose(gathered, ()) == pytest.approx(otsu(gathered))


def test_rules_choose_from_statistics_and_a_sample() -> None:
    gathered = statistics(scenes())
    parts = [otsu(gathered), maximum_entropy(gathered), fisher(gathered)]
    assert Consensus().choose(gathered, ()) == np.median(parts)
    sample = [SampledImage(image, (1,), activation) for image, activation in separable()]
    found = Colours().choose(gathered, iter(sample))
    assert found == best_separation(separation_of(separable()))
    assert Colours().choose(gathered, ()) is None


def test_two_values_are_split_in_the_middle() -> None:
    """Imported seeds as activations: 0 or 1."""
    activation = np.zeros((1, 24, 24), np.float32)
    activation[0, :12] = 1
    gathered = ActivationStatistics(3, GRID)
    gathered.update(activation, (2,))
    assert 0.4 < Consensus().choose(gathered, ()) < 0.6


def test_rules_need_something_to_go_by() -> None:
    nothing = statistics([(np.zeros((0, 8, 8), np.float32), ())])
    with pytest.raises(InputError, match="no threshold can be chosen"):
        otsu(nothing)
