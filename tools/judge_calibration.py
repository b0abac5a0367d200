"""Fit what `judge` knows: weights of its evidence, on finished runs that have masks.

    python -m tools.judge_calibration photos=results/a photos=results/b scenes=results/c --write

Of every trial and method of the runs, the masks at some thresholds are sets of masks, judged and compared
with the truth; so are true masks made worse in known ways, which weigh less: they cover what real masks
seldom reach. Prints how the prediction does on each set of images when nothing of its group took part in the
fit, nor in the width of its interval: runs that share images or networks belong into one group. With --write
the fit on all of them becomes the calibration that `judge` reads.
"""

import argparse
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path

import numpy as np

from tools.degraded_masks import KINDS, degraded
from workflow_scripts.compare_thresholds import FinishedRun
from workflow_scripts.console.progress import progress
from workflow_scripts.datasets.images import read_image
from workflow_scripts.datasets.index import ImageRecord, read_index
from workflow_scripts.evaluation.confusion import Confusion, mean_of_present
from workflow_scripts.evaluation.truth import read_truth
from workflow_scripts.judging.mask_evidence import evidence
from workflow_scripts.judging.predicted_quality import (
    FILE,
    NINETY,
    Calibration,
    PredictedCounts,
    RegionTable,
    SetOfMasks,
    design,
    predicted_counts,
)
from workflow_scripts.refinement.thresholding import dataset_labels, local_labels
from workflow_scripts.storage.activations import ActivationReader

THRESHOLDS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8)
RIDGE = 3.0
DEGRADED_WEIGHT = 0.2
Kind = tuple[str, bool]
# A class that fewer images show says nothing of how classes are predicted.
LEAST_IMAGES = 3
DEGRADED = "degraded"


@dataclass(frozen=True)
class Judged:
    """One set of masks with its evidence and its truth.

    Attributes:
        name: Run, split, trial, method and threshold.
        group: Group of the run: what is of the same images, or by the same networks, is held out together.
        images: Digest of the index and split: which images it is of.
        regions: Evidence, as one of several sets.
        iou: True IoU of each region.
        truth: Confusion with the true masks.
        image_truth: The same of each image.
    """

    name: str
    group: str
    images: str
    regions: RegionTable
    iou: np.ndarray
    truth: Confusion
    image_truth: list[Confusion]

    @property
    def made(self) -> bool:
        """Whether a method made it, and not a degradation of the truth."""
        return DEGRADED not in self.name

    @property
    def weight(self) -> float:
        """How much it counts."""
        return 1.0 if self.made else DEGRADED_WEIGHT

    @property
    def kind(self) -> Kind:
        """Images, and whether a method made it."""
        return self.images, self.made

    @property
    def classes(self) -> int:
        """Number of classes."""
        return self.truth.classes

    @property
    def miou(self) -> float:
        """True mean IoU, 0…1."""
        return self.truth.mean_iou("wrong")

    @property
    def class_iou(self) -> np.ndarray:
        """True IoU of each class, NaN where it does not occur."""
        return self.truth.iou("wrong")


def collect(
    run: Path, split: str, group: str, thresholds: Sequence[float] = THRESHOLDS
) -> list[Judged]:
    """Judge the masks of all trials, methods and thresholds of a run."""
    index = read_index(run / "dataset" / "index.csv")
    content = (run / "dataset" / "index.csv").read_bytes()
    images = f"{sha256(content).hexdigest()[:8]} {split}"
    finished = FinishedRun.read(run)
    places = [place for place in finished.places if (run / place[0] / place[1]).is_dir()]
    readers = [
        [ActivationReader(shard) for shard in finished.files(*place, "activations", split)]
        for place in places
    ]
    names = [f"{run.name} {split} {t} {m} {at:.2f}" for t, m in places for at in thresholds]
    names += [f"{run.name} {split} {DEGRADED} {kind}" for kind in KINDS]
    sets = [SetOfMasks() for _ in names]
    truths: list[list[Confusion]] = [[] for _ in names]
    ious: list[list[float]] = [[] for _ in names]
    records = [record for record in index.of_split(split) if record.mask is not None]
    for position, record in enumerate(progress(records, description=f"{run.name} {split}")):
        pixels, truth = read_image(record.path), read_truth(record)
        masks = [*_masks(record, readers, thresholds), *(degraded(truth, kind) for kind in KINDS)]
        for which, regions in enumerate(evidence(pixels, masks, record.labels)):
            own = Confusion.empty(len(index.classes)).update(truth, masks[which])
            sets[which].add(position, regions)
            truths[which].append(own)
            by_class = own.iou("wrong")
            ious[which] += [float(by_class[region.number]) for region in regions]
    return [
        Judged(
            name,
            group,
            images,
            kept.table(),
            np.nan_to_num(np.array(iou)),
            Confusion(sum((one.counts for one in truth), start=0 * truth[0].counts)),
            truth,
        )
        for name, kept, iou, truth in zip(names, sets, ious, truths, strict=True)
    ]


def _masks(
    record: ImageRecord, readers: Sequence[Sequence[ActivationReader]], thresholds: Sequence[float]
) -> Iterator[np.ndarray]:
    for shards in readers:
        reader = next(reader for reader in shards if record.id in reader.ids)
        activation = reader.read_full(record.id, record.height, record.width)
        for threshold in thresholds:
            yield dataset_labels(local_labels(activation, threshold), record.labels)


def fit(judged: Sequence[Judged]) -> Calibration:
    """Weights of the evidence; images weigh alike, whichever set they are of."""
    weights: list[tuple[float, ...]] = []
    for background in (False, True):
        size = design(judged[0].regions.evidence[:1]).shape[1]
        left, right = RIDGE * np.eye(size), np.zeros(size)
        left[0, 0] = 0
        for kind in sorted({one.kind for one in judged}):
            of_images = [one for one in judged if one.kind == kind]
            for one in of_images:
                chosen = one.regions.judged & ((one.regions.numbers == 0) == background)
                columns = design(one.regions.evidence[chosen])
                weight = 1000 / max(1, len(columns)) / len(of_images)
                weight *= one.weight
                left += weight * columns.T @ columns
                right += weight * columns.T @ one.iou[chosen]
        weights.append(tuple(map(float, np.linalg.solve(left, right))))
    return Calibration(weights[0], weights[1])


def counts_of(one: Judged, weights: Calibration) -> PredictedCounts:
    """Predicted counts of one set."""
    return predicted_counts(one.regions, weights)


def raw_miou(one: Judged, weights: Calibration) -> float:
    """Predicted mean IoU before it is brought to the level of the true ones."""
    return float(mean_of_present(counts_of(one, weights).class_iou(one.classes)))


def line(x: np.ndarray, y: np.ndarray, weights: np.ndarray | None = None) -> tuple[float, float]:
    """Intercept and slope of the least squares."""
    slope, intercept = np.polyfit(x, y, 1, w=None if weights is None else np.sqrt(weights))
    return float(intercept), float(slope)


def held_out(judged: Sequence[Judged]) -> dict[str, Calibration]:
    """For each group, weights and line of all others; of its own if there are no others."""
    found = {}
    for group in dict.fromkeys(one.group for one in judged):
        others = [one for one in judged if one.group != group] or list(judged)
        weights = fit(others)
        found[group] = replace(weights, level=level_of(others, weights))
    return found


def level_of(judged: Sequence[Judged], weights: Calibration) -> tuple[float, float]:
    """Line from the predicted to the true mean IoU."""
    return line(
        np.array([raw_miou(one, weights) for one in judged]),
        np.array([one.miou for one in judged]),
        np.array([one.weight for one in judged]),
    )


@dataclass(frozen=True)
class Fitted:
    """A fit on all sets, and what is known of it from held-out ones.

    Attributes:
        calibration: The fit with its errors.
        outside: For each group the fit without it.
        predicted: For each kind of sets the predictions by these.
        width: For each group half of its interval, by the errors of the other groups; of its own if it is
            the only one.
    """

    calibration: Calibration
    outside: dict[str, Calibration]
    predicted: dict[Kind, np.ndarray]
    width: dict[str, float]


def fitted(judged: Sequence[Judged]) -> Fitted:
    """Fit on all sets, and on all but each group."""
    outside = held_out(judged)
    predicted: dict[Kind, np.ndarray] = {}
    errors: dict[str, list[np.ndarray]] = {}
    pairs = []
    for kind in dict.fromkeys(one.kind for one in judged):
        of_kind = [one for one in judged if one.kind == kind]
        weights = outside[of_kind[0].group]
        raw = np.array([raw_miou(one, weights) for one in of_kind])
        predicted[kind] = weights.level[0] + weights.level[1] * raw
        own = predicted[kind] - np.array([one.miou for one in of_kind])
        # The intervals are those of masks as methods make them.
        if kind[1]:
            errors.setdefault(of_kind[0].group, []).append(own)
            pairs.append(np.subtract.outer(own, own)[np.tril_indices(len(own), -1)])
    weights = fit(judged)
    class_level, class_error = class_errors(judged, outside)
    calibration = replace(
        weights,
        level=level_of(judged, weights),
        error=ninety([own for found in errors.values() for own in found]) / NINETY,
        pair_error=ninety(pairs) / NINETY,
        class_level=class_level,
        class_error=class_error,
    )
    width = {
        group: ninety(
            [own for other, found in errors.items() if other != group for own in found]
            or errors[group]
        )
        for group in errors
    }
    return Fitted(calibration, outside, predicted, width)


def ninety(errors: Sequence[np.ndarray]) -> float:
    """What 90 % of the errors are within, 0…1; sets of images weigh alike, however many errors each has."""
    sizes = np.abs(np.concatenate(errors))
    weights = np.concatenate([np.full(len(own), 1 / len(own)) for own in errors if len(own)])
    order = np.argsort(sizes)
    shares = weights[order].cumsum() / weights.sum()
    return float(sizes[order][min(np.searchsorted(shares, 0.9), len(sizes) - 1)])


def class_errors(
    judged: Sequence[Judged], outside: dict[str, Calibration]
) -> tuple[tuple[float, float], tuple[float, float]]:
    """Line and errors of the IoU of classes on held-out images."""
    raw, truth, shown = [], [], []
    for one in judged:
        iou = counts_of(one, outside[one.group]).class_iou(one.classes)
        regions = one.regions
        images = np.bincount(regions.numbers[regions.expected], minlength=one.classes + 1)
        fits = ~np.isnan(iou) & ~np.isnan(one.class_iou) & (images >= LEAST_IMAGES)
        raw.append(iou[fits])
        truth.append(one.class_iou[fits])
        shown.append(images[fits])
    x, y, n = map(np.concatenate, (raw, truth, shown))
    level = line(x, y)
    squares = (y - level[0] - level[1] * x) ** 2
    base, fall = np.linalg.lstsq(np.stack([np.ones(len(n)), 1 / n], axis=1), squares, rcond=None)[0]
    if fall < 0 or base < 0:
        base, fall = float(squares.mean()), 0.0
    return level, (float(np.sqrt(base)), float(fall))


def gain_ratio(one: Judged, weights: Calibration, part: float = 0.05) -> float:
    """What correcting the first images in the offered order gains, by what as many random ones gain."""
    total, images = one.truth.counts, len(one.image_truth)
    number = max(1, round(part * images))
    order = np.argsort(-counts_of(one, weights).gains(one.classes, images))

    def gained(chosen: np.ndarray) -> float:
        counts = total.copy()
        for which in chosen:
            own = one.image_truth[which].counts
            counts -= own
            # Corrected: every true pixel is predicted as what it is.
            counts[np.arange(len(own)), np.arange(len(own))] += own.sum(axis=1)
        return Confusion(counts).mean_iou("wrong") - one.miou

    random = np.random.default_rng(0)
    chance = np.mean([gained(random.permutation(images)[:number]) for _ in range(20)])
    return gained(order[:number]) / max(float(chance), 1e-9)


def report(judged: Sequence[Judged], found: Fitted) -> str:
    """How the prediction does on images that took no part in the fit, a line for each set of images."""
    lines = [
        f"{'images':34}{'sets':>5}{'rank':>7}{'error':>7}{'inside':>8}{'bias':>7}{'gain':>6}"
        "   (rank correlation, median error, share in the interval, gain by random)"
    ]
    for (images, made), values in found.predicted.items():
        own = [one for one in judged if one.kind == (images, made)]
        truth = np.array([one.miou for one in own])
        off = values - truth
        inside = np.mean(np.abs(off) <= found.width[own[0].group])
        gains = np.median([gain_ratio(one, found.outside[own[0].group]) for one in own])
        runs = sorted({" ".join(one.name.split()[: 2 if made else 3]) for one in own})
        lines.append(
            f"{', '.join(runs):34}{len(own):5}{rank_correlation(values, truth):7.2f}"
            f"{100 * np.median(np.abs(off)):7.1f}{100 * inside:7.0f}%{100 * off.mean():7.1f}{gains:6.1f}"
        )
    return "\n".join(lines)


def rank_correlation(x: np.ndarray, y: np.ndarray) -> float:
    """Spearman's correlation."""
    ranks = [np.argsort(np.argsort(values)) for values in (x, y)]
    return float(np.corrcoef(ranks[0], ranks[1])[0, 1])


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("runs", nargs="+", metavar="GROUP=RUN", help="group and folder of a run")
    parser.add_argument("--splits", nargs="+", default=["train", "val"])
    parser.add_argument("--write", action="store_true", help="write the calibration of `judge`")
    parser.add_argument(
        "--described", nargs="+", metavar="WORDS", help="what the data are, for `judge --help`"
    )
    given = parser.parse_args(argv)
    if given.write and not given.described:
        parser.error("--write needs --described: `judge` tells what it was fitted on")
    judged = [
        one
        for group, _, run in (word.partition("=") for word in given.runs)
        for split in given.splits
        for one in collect(Path(run), split, group)
    ]
    found = fitted(judged)
    print(report(judged, found))
    if given.write:
        replace(found.calibration, fitted_on=tuple(given.described)).write(FILE)
        print(FILE)
    return 0


if __name__ == "__main__":
    sys.exit(main())
