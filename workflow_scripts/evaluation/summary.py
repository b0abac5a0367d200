"""From the results of single trials to the summary of a run: figures, their spread, and differences.

A figure is `{"mean": …, "std": …, "values": [one per trial]}`: `std` is the sample standard deviation
(n - 1), null for one trial. mIoU and IoU are in percent, shares and the rest as they are. A figure
that was not computed, or is undefined in some trial, is absent.

Whether the difference between two methods' mIoU is more than chance is told by a paired bootstrap: images
are drawn with replacement, the same ones for both methods (Efron & Tibshirani, "An Introduction to the
Bootstrap", 1993, chapter 13: percentile interval), and mIoU is computed from the pooled counts of each draw.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from workflow_scripts.evaluation.confusion import (
    Confusion,
    Evaluation,
    Policy,
    iou_of_counts,
    mean_of_present,
)
from workflow_scripts.evaluation.threshold_sweep import Sweeps
from workflow_scripts.storage.masks import SeedPixels

Figures = dict[str, Any]
_DRAWS_AT_ONCE = 50


@dataclass(frozen=True)
class SourceResults:
    """What came of pseudo-masks made at one threshold, by split."""

    threshold: float | None = None
    """None for true masks."""
    pseudo_masks: Mapping[str, Confusion] = field(default_factory=dict)
    segmentation: Mapping[str, Confusion] = field(default_factory=dict)


@dataclass(frozen=True)
class MethodResults:
    """All results of one method in one trial; what was not computed is missing."""

    sweeps: Mapping[str, Sweeps] = field(default_factory=dict)
    propagated_sweeps: Mapping[str, Sweeps] = field(default_factory=dict)
    """Of activations that a boundary network has propagated; pseudo-masks are then made of these."""
    seed_pixels: Mapping[str, SeedPixels] = field(default_factory=dict)
    seeds: Mapping[str, Confusion] = field(default_factory=dict)
    sources: Mapping[str, SourceResults] = field(default_factory=dict)
    """By key, "0.50" for a threshold; the first one is the one that is reported first."""


def figure(values: Sequence[float]) -> Figures | None:
    """Return mean, sample standard deviation and values; None when one is missing or NaN."""
    if not len(values) or not np.isfinite(values).all():
        return None
    numbers = [float(value) for value in values]
    spread = float(np.std(numbers, ddof=1)) if len(numbers) > 1 else None
    return {"mean": float(np.mean(numbers)), "std": spread, "values": numbers}


def summarise_method(trials: Sequence[MethodResults], classes: Sequence[str]) -> Figures:
    """Return the figures of one method over its trials, as in `summary.json`."""
    sections: Figures = {
        "activations": _by_split([_activations(trial) for trial in trials]),
        "propagated": _by_split([_propagated(trial) for trial in trials]),
        "seeds": _by_split([_seeds(trial) for trial in trials]),
    }
    keys = [key for key in trials[0].sources if all(key in trial.sources for trial in trials)]
    by_key = {key: _source([trial.sources[key] for trial in trials], classes) for key in keys}
    if keys:
        sections |= by_key[keys[0]]
    thresholds = {
        key: figures
        for key, figures in by_key.items()
        if trials[0].sources[key].threshold is not None
    }
    sections["by_threshold"] = thresholds
    return {name: content for name, content in sections.items() if content}


def _source(trials: Sequence[SourceResults], classes: Sequence[str]) -> Figures:
    sections = {
        "pseudo_masks": _by_split([_pseudo_masks(trial) for trial in trials]),
        "segmentation": _by_split([_segmentation(trial, classes) for trial in trials]),
    }
    return {name: content for name, content in sections.items() if content}


def _activations(trial: MethodResults) -> dict[str, Figures]:
    """Figures of the sweeps; the threshold of pseudo-masks is not theirs where others are thresholded."""
    return _sweep_figures(trial.sweeps, None if trial.propagated_sweeps else _threshold(trial))


def _propagated(trial: MethodResults) -> dict[str, Figures]:
    return _sweep_figures(trial.propagated_sweeps, _threshold(trial))


def _threshold(trial: MethodResults) -> float | None:
    return next((source.threshold for source in trial.sources.values()), None)


def _sweep_figures(
    by_split: Mapping[str, Sweeps], threshold: float | None
) -> dict[str, dict[str, float]]:
    """Figures of each split of which any image has a truth."""
    return {
        split: sweep_figures(sweeps, threshold)
        for split, sweeps in by_split.items()
        if sweeps.plain.images().ids
    }


def sweep_figures(sweeps: Sweeps, threshold: float | None = None) -> dict[str, float]:
    """Return the figures of one split's sweep; `regret` only for a chosen threshold.

    Per-image figures are means over images: `image_miou_global` at the threshold that is best for
    the whole split, `image_miou_oracle` at each image's own best.
    """
    curve = sweeps.plain.curve()
    images = sweeps.plain.images()
    counted = images.iou[~np.isnan(images.iou).any(axis=1)].astype(np.float64)
    best = 100 * float(curve.miou[curve.best])
    figures = {
        "best_miou": best,
        "best_threshold": round(float(curve.thresholds[curve.best]), 6),
        "mean_miou": 100 * float(curve.miou.mean()),
        "plateau": curve.plateau,
        "image_miou_global": 100 * _mean(counted[:, curve.best]),
        "image_miou_oracle": 100 * _mean(counted.max(axis=1)),
        "foreground_cv": _mean(images.foreground_cv[~np.isnan(images.foreground_cv)]),
        "gap": _mean(images.gap[~np.isnan(images.gap)]),
    }
    if threshold is not None:
        figures["regret"] = best - 100 * curve.miou_at(threshold)
    if sweeps.refined is not None:
        refined = sweeps.refined.curve().miou
        figures["refined_best_miou"] = 100 * float(refined.max())
        figures["refined_mean_miou"] = 100 * float(refined.mean())
    return figures


def _mean(values: np.ndarray) -> float:
    return float(values.mean()) if len(values) else float("nan")


def _seeds(trial: MethodResults) -> dict[str, Figures]:
    figures: dict[str, Figures] = {}
    for split, pixels in trial.seed_pixels.items():
        total = pixels.background + pixels.foreground + pixels.ignored
        figures[split] = {
            "background": pixels.background / total if total else float("nan"),
            "foreground": pixels.foreground / total if total else float("nan"),
            "ignored": pixels.ignored / total if total else float("nan"),
        }
    for split, confusion in trial.seeds.items():
        figures.setdefault(split, {})["miou_confident"] = 100 * confusion.mean_iou("skip")
    return figures


def _pseudo_masks(trial: SourceResults) -> dict[str, Figures]:
    figures: dict[str, Figures] = {}
    for split, confusion in trial.pseudo_masks.items():
        figures[split] = {"miou": 100 * confusion.mean_iou("wrong")}
        if trial.threshold is not None:
            figures[split]["threshold"] = trial.threshold
    return figures


def _segmentation(trial: SourceResults, classes: Sequence[str]) -> dict[str, Figures]:
    names = ("background", *classes)
    return {
        split: {
            "miou": 100 * confusion.mean_iou("wrong"),
            "per_class": dict(zip(names, 100 * confusion.iou("wrong"), strict=True)),
        }
        for split, confusion in trial.segmentation.items()
    }


def _by_split(trials: Sequence[dict[str, Figures]]) -> Figures:
    return _gather(trials)


def _gather(trials: Sequence[Any]) -> Any:
    """Turn one nest of numbers a trial into one nest of figures."""
    if not isinstance(trials[0], dict):
        return figure(trials)
    shared = [key for key in trials[0] if all(key in trial for trial in trials)]
    gathered = {key: _gather([trial[key] for trial in trials]) for key in shared}
    return {key: value for key, value in gathered.items() if value}


def flatten(methods: Mapping[str, Figures]) -> Iterator[dict[str, Any]]:
    """Yield the rows of `summary.csv`: where a figure stands, mean, std, values joined by ";".

    Columns: method, section, split, threshold (of the pseudo-masks; empty for the first one, which
    stands for the method), figure, class, mean, std, values.
    """
    for method, sections in methods.items():
        yield from _rows(sections, method, "")
        for key, nested in sections.get("by_threshold", {}).items():
            yield from _rows(nested, method, key)


def _rows(sections: Figures, method: str, threshold: str) -> Iterator[dict[str, Any]]:
    for section in ("activations", "propagated", "seeds", "pseudo_masks", "segmentation"):
        for split, figures in sections.get(section, {}).items():
            place = {"method": method, "section": section, "split": split, "threshold": threshold}
            for name, value in figures.items():
                classes = value if name == "per_class" else {"": value}
                for of_class, one in classes.items():
                    yield place | {
                        "figure": name,
                        "class": of_class,
                        "mean": one["mean"],
                        "std": "" if one["std"] is None else one["std"],
                        "values": ";".join(map(str, one["values"])),
                    }


def curve_rows(trial: int, method: str, split: str, sweeps: Sweeps) -> Iterator[dict[str, Any]]:
    """Yield the rows of `curves.csv` of one sweep, thresholds ascending; figures in percent.

    The coarse grid of refined masks has rows of its own; a figure not computed at a threshold is
    empty.
    """
    place = {"trial": trial, "method": method, "split": split}
    curve = sweeps.plain.curve()
    columns = {"miou": curve.miou, "precision": curve.precision, "recall": curve.recall}
    rows = _points(curve.thresholds, columns)
    if sweeps.refined is not None:
        refined = sweeps.refined.curve()
        for threshold, values in _points(
            refined.thresholds, {"refined_miou": refined.miou}
        ).items():
            rows.setdefault(threshold, {}).update(values)
    for threshold in sorted(rows):
        empty = dict.fromkeys(("miou", "precision", "recall", "refined_miou"), "")
        yield place | {"threshold": threshold} | empty | rows[threshold]


def _points(
    thresholds: np.ndarray, columns: Mapping[str, np.ndarray]
) -> dict[float, dict[str, Any]]:
    return {
        round(float(threshold), 6): {
            name: 100 * float(values[i]) for name, values in columns.items()
        }
        for i, threshold in enumerate(thresholds)
    }


@dataclass(frozen=True, slots=True)
class PairedDifference:
    """Difference of mIoU (second minus first, 0…1) with its interval over draws of images."""

    difference: float
    low: float
    high: float
    share_above_zero: float
    """Share of draws in which the second method is better."""
    images: int
    draws: int

    @property
    def significant(self) -> bool:
        """Whether the interval excludes zero."""
        return self.low > 0 or self.high < 0


def image_counts(evaluation: Evaluation, ids: Sequence[str], ignored: Policy) -> np.ndarray:
    """Return hits, true and predicted pixels of each image and class, float64[N, 3, C+1]."""
    classes = len(evaluation.classes)
    # Filled in place: what a matrix returns may be a view that keeps all of it alive.
    counts = np.empty((len(ids), 3, classes + 1))
    for row, image_id in zip(counts, ids, strict=True):
        confusion = Confusion.from_cells(classes, evaluation.images[image_id])
        row[:] = confusion.hits_truth_predicted(ignored)
    return counts


def paired_difference(
    first: np.ndarray,
    second: np.ndarray,
    *,
    draws: int = 1000,
    confidence: float = 0.95,
    seed: int = 0,
) -> PairedDifference:
    """Bootstrap the difference of mIoU between two methods on the same images.

    Args:
        first: Counts float64[N, 3, C+1] of `image_counts`.
        second: The same for the other method, images in the same order.
        draws: Number of resamplings.
        confidence: Probability mass of the interval, taken between its percentiles.
        seed: Of the draws.

    Raises ValueError when the shapes differ or there is no image.
    """
    if first.shape != second.shape or not len(first):
        raise ValueError(f"counts of {list(first.shape)} and {list(second.shape)} are no pairs")
    random = np.random.default_rng(seed)
    images = len(first)
    both = np.stack([first, second], axis=1).reshape(images, -1)
    differences: list[np.ndarray] = []
    for start in range(0, draws, _DRAWS_AT_ONCE):
        size = min(_DRAWS_AT_ONCE, draws - start)
        times = random.multinomial(images, np.full(images, 1 / images), size=size)
        differences.append(_difference((times @ both).reshape(size, 2, 3, -1)))
    drawn = np.concatenate(differences)
    low, high = np.quantile(drawn, [(1 - confidence) / 2, (1 + confidence) / 2])
    whole = _difference(both.sum(axis=0).reshape(1, 2, 3, -1))
    return PairedDifference(
        float(whole[0]), float(low), float(high), float((drawn > 0).mean()), images, draws
    )


def _difference(counts: np.ndarray) -> np.ndarray:
    """Return mIoU of the second minus the first, float64[B], from [B, 2, 3, C+1]."""
    hits, truth, predicted = np.moveaxis(counts, 2, 0)
    miou = mean_of_present(iou_of_counts(hits, truth, predicted))
    return miou[:, 1] - miou[:, 0]
