"""From the results of single trials to the summary of a run: figures with mean and spread.

A figure is `{"mean": …, "std": …, "values": [one per trial]}`: `std` is the sample standard deviation
(n - 1), null for one trial. mIoU and IoU are in percent, shares and the rest as they are. A figure
that was not computed, or is undefined in some trial, is absent.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from workflow_scripts.evaluation.confusion import Confusion
from workflow_scripts.evaluation.threshold_sweep import Sweeps
from workflow_scripts.storage.masks import SeedPixels

Figures = dict[str, Any]


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
