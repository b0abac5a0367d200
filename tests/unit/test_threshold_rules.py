from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import pytest

from workflow_scripts.errors import InputError
from workflow_scripts.evaluation.activation_statistics import ActivationStatistics
from workflow_scripts.evaluation.agreement import MethodAgreement, RefinementAgreement, kappa
from workflow_scripts.evaluation.colour_separation import ColourSeparation
from workflow_scripts.evaluation.confusion import Confusion
from workflow_scripts.evaluation.threshold_choice import label_free_candidates
from workflow_scripts.evaluation.threshold_sweep import even_thresholds
from workflow_scripts.evaluation.thresholds import (
    between_class_variance,
    colours,
    consensus,
    method_agreement,
    most_stable,
    otsu,
    refinement_agreement,
    stability,
)
from workflow_scripts.refinement.thresholding import dataset_labels, local_labels
from workflow_scripts.storage.enlargement import reduce

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
    assert gathered.images == 5
    assert gathered.image_shares.sum() / 2**20 == pytest.approx(5, abs=1e-3)


def test_shards_merge_exactly_and_round_trip(tmp_path: Path) -> None:
    whole, first, second = statistics(scenes()), statistics(scenes()[:2]), statistics(scenes()[2:])
    second.write(tmp_path / "b.safetensors")
    first.merge(ActivationStatistics.read(tmp_path / "b.safetensors"))
    assert np.array_equal(first.counts, whole.counts)
    assert np.array_equal(first.image_shares, whole.image_shares)
    assert first.images == whole.images
    with pytest.raises(ValueError, match="cannot be merged"):
        first.merge(statistics([], even_thresholds(0.1)))
    with pytest.raises(InputError, match="not a complete file of activation statistics"):
        ActivationStatistics.read(tmp_path / "missing")


def test_stability_is_the_miou_of_the_masks_around() -> None:
    gathered = statistics(scenes())
    found = stability(gathered, window=0.1)
    assert np.isnan(found[:5]).all()
    assert np.isnan(found[-5:]).all()
    for t in (5, 40, 80):
        confusion = Confusion.empty(3)
        for activation, labels in scenes():
            if not labels:
                continue
            low, high = (label_map(activation, labels, GRID[t + d]) for d in (-5, 5))
            confusion.update(low, high)
        iou = confusion.iou("skip")
        assert found[t] == pytest.approx(np.nan_to_num(iou).mean())


def test_stable_threshold_lies_between_two_modes() -> None:
    assert 0.3 < most_stable(statistics(scenes())) < 0.62
    assert 0.45 < most_stable(statistics(scenes(0.3, 0.9))) < 0.8


@pytest.mark.parametrize("images_alike", [False, True])
def test_otsu_equals_the_textbook_formula(images_alike: bool) -> None:
    gathered = statistics(scenes())
    weight = gathered.image_shares if images_alike else gathered.counts[1:].sum(axis=0)
    weight = weight / weight.sum()
    centre = (np.concatenate([[0], GRID]) + np.concatenate([GRID, [1]])) / 2
    found = between_class_variance(gathered, images_alike=images_alike)
    for t in (20, 45, 60):
        low, high = weight[: t + 1], weight[t + 1 :]
        means = [
            (part * c).sum() / part.sum()
            for part, c in ((low, centre[: t + 1]), (high, centre[t + 1 :]))
        ]
        assert found[t] == pytest.approx(low.sum() * high.sum() * (means[1] - means[0]) ** 2)
    assert 0.3 < otsu(gathered, images_alike=images_alike) < 0.6


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
    chosen = colours(separation)
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
    assert colours(separation_of(plain)) is None
    assert colours(separation_of([(np.full((48, 48, 3), 90, np.uint8), plain[0][1])])) is None
    assert colours(separation_of([])) is None


def test_without_colours_the_consensus_stands_alone() -> None:
    gathered = statistics(scenes())
    found = label_free_candidates(gathered, separation_of(separable()))
    assert list(found) == ["colours", "consensus", "otsu", "entropy", "fisher"]
    assert found["consensus"] == np.median([found[name] for name in ("otsu", "entropy", "fisher")])
    assert "colours" not in label_free_candidates(gathered, separation_of([]))


def test_two_values_are_split_in_the_middle() -> None:
    """Imported seeds as activations: 0 or 1."""
    activation = np.zeros((1, 24, 24), np.float32)
    activation[0, :12] = 1
    gathered = ActivationStatistics(3, GRID)
    gathered.update(activation, (2,))
    assert 0.4 < consensus(gathered) < 0.6


def test_rules_need_something_to_go_by() -> None:
    nothing = statistics([(np.zeros((0, 8, 8), np.float32), ())])
    with pytest.raises(InputError, match="no threshold can be chosen"):
        otsu(nothing)
    with pytest.raises(InputError, match="no threshold can be chosen"):
        method_agreement(MethodAgreement(GRID))


def test_kappa_by_hand() -> None:
    # Cohen's example in every textbook: 20, 5, 10, 15 of 50.
    assert kappa(np.array([[20, 5], [10, 15]])) == pytest.approx(0.4)
    assert np.isnan(kappa(np.array([[7, 0], [0, 0]])))
    assert kappa(np.array([[[1, 0], [0, 1]], [[1, 1], [1, 1]]])).tolist() == [1, 0]


def test_refinement_agreement_finds_the_masks_that_refinement_keeps() -> None:
    grid = np.array([0.1, 0.3, 0.5, 0.7, 0.9])
    agreement = RefinementAgreement(1, grid)
    random = np.random.default_rng(0)
    before = (random.random((5, 40, 40)) < 0.5).astype(np.uint8)
    changed = random.random(before.shape) < np.array([0.4, 0.2, 0.1, 0.1, 0.3])[:, None, None]
    agreement.update(before, before ^ changed)
    assert 0.5 < refinement_agreement(agreement) < 0.7
    other = RefinementAgreement(1, grid)
    other.merge(agreement)
    assert np.array_equal(other.counts, agreement.counts)


def test_method_agreement_equals_kappa_of_the_masks() -> None:
    grid = np.array([0.2, 0.45, 0.6, 0.8])
    agreement = MethodAgreement(grid)
    first, second = scenes(), scenes(0.4, 0.85, seed=1)
    pairs = [(a, b) for a, b in zip(first, second, strict=True) if a[1]]
    for a, b in pairs:
        agreement.update(a[0], b[0])
    found = agreement.kappa()
    for i, j in [(0, 0), (1, 2), (2, 1), (3, 3)]:
        agree = total = foreground_a = foreground_b = 0
        for a, b in pairs:
            one = label_map(a[0], a[1], grid[i])
            two = label_map(b[0], b[1], grid[j])
            agree += (one == two).sum()
            total += one.size
            foreground_a += (one > 0).sum()
            foreground_b += (two > 0).sum()
        p, q = foreground_a / total, foreground_b / total
        expected = p * q + (1 - p) * (1 - q)
        assert found[i, j] == pytest.approx((agree / total - expected) / (1 - expected))
    assert method_agreement(agreement) == pytest.approx((0.45, 0.6))
