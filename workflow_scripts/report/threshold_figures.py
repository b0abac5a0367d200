"""Figures about thresholds and activations."""

from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from workflow_scripts.evaluation.run_results import threshold_of
from workflow_scripts.evaluation.threshold_sweep import PLATEAU, ThresholdSweep
from workflow_scripts.report.figure_style import bars_only, canvas, panels, subtitle
from workflow_scripts.report.names import GREY, colours_of, method_name, refinement_of
from workflow_scripts.report.run_data import Curve, RunData, need
from workflow_scripts.settings.refinement import AUTO, VALIDATION

_MARKERS = {AUTO: "D", VALIDATION: "^"}
_BIN = 0.04


def sweep_curves(run: RunData, path: Path) -> None:
    """Draw mIoU against threshold, plain and refined, for every method."""
    plain, refined = run.curves("miou", run.split), run.curves("refined_miou", run.split)
    need(plain, run, "threshold sweeps")
    colours = colours_of(run.methods)
    titles = ["Activations as they are"] + (
        [f"After {refinement_of(run.summary)}"] if refined else []
    )
    with canvas(path, 9.6 if refined else 6.0, 4.6) as figure:
        first, *others = panels(figure, titles, 2)
        for lane, (method, curve) in enumerate(plain.items()):
            threshold, best = curve.thresholds[curve.best], curve.mean[curve.best]
            label = f"{method_name(method)}: best {best:.1f} at {threshold:.3f}"
            _band(first, curve, colours[method], label)
            style: dict[str, Any] = {"color": colours[method], "zorder": 5}
            first.plot(threshold, best, "o", markersize=8, markeredgecolor="white", **style)
            _plateau_lane(first, curve, colours[method], len(plain) - 1 - lane)
        for source in run.sources:
            if threshold_of(source) is None:
                _chosen_by_rule(first, run, source, plain, colours)
        for method, curve in refined.items():
            _band(others[0], curve, colours[method], method_name(method), marker="o")
        first.set_ylabel(f"mIoU on {run.split}, %")
        for axes in (first, *others):
            _chosen(axes, run)
            axes.set(xlabel="background threshold", xlim=(0, 1))
            axes.set_ylim(bottom=0)
        handles, labels = first.get_legend_handles_labels()
        key: dict[str, Any] = {"color": GREY, "linestyle": ""}
        handles += [
            Line2D([], [], marker="o", markersize=7, **key),
            Line2D([], [], marker="_", markersize=14, markeredgewidth=5, **key),
        ]
        labels += ["best threshold, an oracle's choice", "thresholds within 5 % of the best"]
        figure.legend(handles, labels, loc="outside lower center", ncols=3)


def _plateau_lane(axes: Axes, curve: Curve, colour: str, lane: int) -> None:
    """Mark the thresholds within 5 % of the best by bars at the foot of the plot."""
    height = 0.025 + 0.03 * lane
    for low, high in curve.plateau_ranges:
        place = axes.get_xaxis_transform()
        axes.plot(
            [low, high], [height, height], transform=place, color=colour, lw=6,
            solid_capstyle="butt",
        )  # fmt: skip


def _band(axes: Axes, curve: Curve, colour: str, label: str, marker: str = "") -> None:
    axes.plot(curve.thresholds, curve.mean, color=colour, label=label, marker=marker, markersize=5)
    if curve.spread.any():
        low, high = curve.mean - curve.spread, curve.mean + curve.spread
        axes.fill_between(curve.thresholds, low, high, color=colour, alpha=0.18, linewidth=0)


def _chosen(axes: Axes, run: RunData) -> None:
    for i, threshold in enumerate(run.thresholds):
        axes.axvline(
            threshold,
            color=GREY,
            linestyle=(0, (4, 3)),
            linewidth=1,
            zorder=1,
            label=None if i else "threshold used by this run",
        )


def _chosen_by_rule(
    axes: Axes, run: RunData, source: str, curves: dict[str, Curve], colours: dict[str, str]
) -> None:
    """Mark each method's own threshold, which "auto" or "validation" chose, on its curve."""
    chosen = {m: t for m, t in run.chosen_thresholds(source).items() if m in curves}
    for i, (method, threshold) in enumerate(chosen.items()):
        miou = np.interp(threshold, curves[method].thresholds, curves[method].mean)
        style: dict[str, Any] = {"color": colours[method], "markeredgecolor": "black", "zorder": 6}
        axes.plot(threshold, miou, _MARKERS.get(source, "s"), markersize=7, **style)
        if i == len(chosen) - 1:
            label = f"{source} threshold"
            key: dict[str, Any] = {"color": GREY, "markeredgecolor": "black", "markersize": 7}
            axes.plot([], [], _MARKERS.get(source, "s"), label=label, **key)


def plateau(run: RunData, path: Path) -> None:
    """Draw the share of thresholds within 5 % of the best, for every method and split."""
    sections = run.section("activations")
    need(sections, run, "threshold sweeps")
    splits = [s for s in run.summary["images"] if any(s in part for part in sections.values())]
    with canvas(path, 7.2, 1.3 + 0.32 * len(sections) * max(1, len(splits))) as figure:
        [axes] = panels(figure, ["Thresholds that serve nearly as well as the best"], 1)
        _grouped_bars(axes, run, sections, splits, "plateau", 100)
        axes.set_xlabel(
            f"share of thresholds with at least {PLATEAU:.0%} of the method's best mIoU"
        )


def _grouped_bars(
    axes: Axes,
    run: RunData,
    sections: dict[str, dict[str, Any]],
    splits: list[str],
    name: str,
    scale: float,
) -> None:
    """One horizontal bar for each method within each split, with its value written beside."""
    colours = colours_of(run.methods)
    ticks, labels, y = [], [], 0.0
    for split in splits:
        start = y
        for method, part in sections.items():
            if name not in part.get(split, {}):
                continue
            mean, spread = part[split][name]["mean"] * scale, part[split][name]["std"]
            error = 0 if spread is None else spread * scale
            axes.barh(y, mean, 0.8, color=colours[method], xerr=error or None, ecolor="#374151")
            axes.annotate(
                f"{method_name(method)}  {mean:.0f} %",
                (mean + error, y),
                xytext=(6, 0),
                textcoords="offset points",
                va="center",
                fontsize=9,
            )
            y += 1
        ticks.append((start + y - 1) / 2)
        labels.append(split)
        y += 0.6
    axes.set_yticks(ticks, labels)
    axes.invert_yaxis()
    axes.margins(x=0.35)
    bars_only(axes)


def segmentation_by_threshold(run: RunData, path: Path) -> None:
    """Draw the segmentation network's mIoU against the threshold of its pseudo-masks."""
    sections = run.section("by_threshold")
    need(sections, run, "segmentation networks at several thresholds")
    colours = colours_of(run.methods)
    with canvas(path, 6.4, 4.4) as figure:
        [axes] = panels(figure, ["Segmentation networks trained on pseudo-masks"], 1)
        names = []
        for method, by_key in sections.items():
            points = network_points(by_key)
            names += [
                method_name(method),
                *(f"{method_name(method)}, {k} threshold" for k in _MARKERS),
            ]
            fixed = sorted(point for key, point in points.items() if key not in _MARKERS)
            style: dict[str, Any] = {"color": colours[method], "capsize": 3}
            if fixed:
                thresholds, means, errors = zip(*fixed, strict=True)
                label = method_name(method)
                axes.errorbar(thresholds, means, errors, marker="o", label=label, **style)
            for key, (x, y, error) in points.items():
                if key in _MARKERS:
                    mark: dict[str, Any] = {
                        "marker": _MARKERS[key],
                        "markeredgecolor": "black",
                        "ls": "",
                    }
                    label = f"{method_name(method)}, {key} threshold"
                    axes.errorbar(x, y, error, label=label, zorder=5, **mark, **style)
        for method, part in run.section("segmentation").items():
            if method not in sections and "val" in part:
                names.append(method_name(method))
                axes.axhline(
                    part["val"]["miou"]["mean"],
                    color=colours[method],
                    linestyle=":",
                    label=method_name(method),
                )
        axes.set(xlabel="threshold of the pseudo-masks", ylabel="mIoU on val, %", xlim=(0, 1))
        axes.set_ylim(bottom=0)
        axes.margins(y=0.08)
        # Matplotlib lists lines before error bars; methods shall stay together.
        handles, labels = axes.get_legend_handles_labels()
        by_label = dict(zip(labels, handles, strict=True))
        drawn = [label for label in names if label in by_label]
        places: dict[str, Any] = {"loc": "outside lower center", "ncols": 3}
        figure.legend([by_label[label] for label in drawn], drawn, **places)


def network_points(by_key: dict[str, Any]) -> dict[str, tuple[float, float, float]]:
    """Return threshold, mIoU and its deviation for each source of pseudo-masks.

    The threshold of "auto" and "validation" is the mean of those chosen.
    """
    points = {}
    for key, part in by_key.items():
        miou = part.get("segmentation", {}).get("val", {}).get("miou")
        chosen = [f["threshold"] for f in part.get("pseudo_masks", {}).values() if "threshold" in f]
        if miou and (chosen or key not in _MARKERS):
            threshold = chosen[0]["mean"] if chosen else float(key)
            points[key] = (threshold, miou["mean"], miou["std"] or 0.0)
    return points


def image_thresholds(run: RunData, path: Path) -> None:
    """Draw the distribution of each image's own best threshold, for every method."""
    sweeps = run.sweeps(run.split)
    need(sweeps, run, "threshold sweeps")
    colours = colours_of(run.methods)
    edges = np.linspace(0, 1, 21).tolist()
    with canvas(path, 3.0 * min(3, len(sweeps)) + 0.6, 2.9 * -(-len(sweeps) // 3)) as figure:
        titles = [method_name(method) for method in sweeps]
        for axes, (method, sweep) in zip(panels(figure, titles, 3), sweeps.items(), strict=True):
            best = best_thresholds(sweep.plain)
            weights = np.full(len(best), 100 / max(len(best), 1))
            axes.hist(best, edges, weights=weights, color=colours[method], edgecolor="white")
            if len(best):
                axes.axvline(float(np.median(best)), color="#111827", linewidth=1.2)
                subtitle(axes, f"median {np.median(best):.2f}; {_cost(run, method)}")
            axes.set(xlabel="best threshold of an image", xlim=(0, 1))
            axes.yaxis.set_major_locator(MaxNLocator(5, integer=True))
        figure.axes[0].set_ylabel(f"images of {run.split}, %")


def best_thresholds(sweep: ThresholdSweep) -> np.ndarray:
    """Return the best threshold of each image for which the threshold matters, float64[N].

    Where several are equally good, the middle of them counts. Images whose IoU is undefined, or the
    same at every threshold (as where there is no object), have no best one and are left out.
    """
    iou = sweep.images().iou
    counted = iou[~np.isnan(iou).any(axis=1) & (iou.max(axis=1) > iou.min(axis=1))]
    equal = counted == counted.max(axis=1, keepdims=True)
    return (equal * sweep.thresholds).sum(axis=1) / equal.sum(axis=1)


def _cost(run: RunData, method: str) -> str:
    """What one threshold for all images costs, in words."""
    part = run.summary["methods"][method]["activations"][run.split]
    cost = part["image_miou_oracle"]["mean"] - part["image_miou_global"]["mean"]
    return f"one for all costs {cost:.1f} points"


def activation_histograms(run: RunData, path: Path) -> None:
    """Draw the winner's activation inside true objects and in the true background."""
    sweeps = run.sweeps(run.split)
    need(sweeps, run, "threshold sweeps")
    colours = colours_of(run.methods)
    with canvas(path, 3.2 * min(3, len(sweeps)) + 0.6, 3.1 * -(-len(sweeps) // 3)) as figure:
        titles = [method_name(method) for method in sweeps]
        for axes, (method, sweep) in zip(panels(figure, titles, 3), sweeps.items(), strict=True):
            inside, outside = sweep.plain.activation_histograms()
            edges, groups = _bins(sweep.plain.thresholds)
            for pixels, colour, alpha, label in (
                (outside, GREY, 0.5, "background"),
                (inside, colours[method], 0.75, "objects"),
            ):
                share = 100 * np.add.reduceat(pixels, groups) / max(pixels.sum(), 1)
                density = share * _BIN / np.diff(edges)
                axes.stairs(density, edges, fill=True, color=colour, alpha=alpha, label=label)
            axes.set(xlabel="activation of the winner", xlim=(0, 1))
            axes.set_ylim(bottom=0)
            axes.legend(loc="upper center")
        figure.axes[0].set_ylabel(f"pixels of the region, % per {_BIN}")


def _bins(thresholds: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return edges of about equal bins among the sweep's own, and the first of each bin's counts."""
    step = max(1, round(_BIN * len(thresholds)))
    inner = np.arange(step, len(thresholds) - step // 2, step)
    edges = np.concatenate([[0.0], thresholds[inner], [1.0]])
    return edges, np.concatenate([[0], inner + 1])
