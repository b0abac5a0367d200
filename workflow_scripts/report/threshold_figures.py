"""Figures about thresholds and activations."""

from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes

from workflow_scripts.evaluation.run_results import threshold_of
from workflow_scripts.evaluation.threshold_curve import PLATEAU
from workflow_scripts.report.names import method_name
from workflow_scripts.report.palette import GREY, colours_of
from workflow_scripts.report.run_data import RunData, need
from workflow_scripts.report.run_tables import Curve
from workflow_scripts.report.style import bars_only, canvas, panels
from workflow_scripts.settings.thresholds import AUTO, VALIDATION

_MARKERS = {AUTO: "D", VALIDATION: "^"}


def sweep_curves(run: RunData, path: Path) -> None:
    """Draw mIoU against threshold, plain and refined, for every method."""
    plain, refined = run.curves("miou", run.split), run.curves("refined_miou", run.split)
    need(plain, run, "threshold sweeps")
    colours = colours_of(run.methods)
    titles = ["Activations as they are"] + (["After dense CRF"] if refined else [])
    with canvas(path, 9.2 if refined else 5.6, 4.2) as figure:
        first, *others = panels(figure, titles, 2)
        for method, curve in plain.items():
            at = int(curve.mean.argmax())
            threshold, best = curve.thresholds[at], curve.mean[at]
            label = f"{method_name(method)}, oracle {best:.1f} at {threshold:.2f}"
            _band(first, curve, colours[method], label)
            style: dict[str, Any] = {
                "color": colours[method],
                "markeredgecolor": "white",
                "zorder": 5,
            }
            first.plot(threshold, best, "o", markersize=8, **style)
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
        figure.legend(handles, labels, loc="outside lower center", ncols=3)


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
        label = None if i else f"chosen: {source}"
        axes.plot(threshold, miou, _MARKERS.get(source, "s"), markersize=8, label=label, **style)


def plateau(run: RunData, path: Path) -> None:
    """Draw the share of thresholds within 5 % of the best, for every method and split."""
    sections = run.section("activations")
    need(sections, run, "threshold sweeps")
    splits = [s for s in run.summary["images"] if any(s in part for part in sections.values())]
    with canvas(path, 7.2, 1.3 + 0.32 * len(sections) * max(1, len(splits))) as figure:
        [axes] = panels(figure, [f"Thresholds within {1 - PLATEAU:.0%} of the best"], 1)
        _grouped_bars(axes, run, sections, splits, "plateau", 100)
        axes.set_xlabel("share of thresholds, %")


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
            axes.barh(y, mean, 0.8, color=colours[method], xerr=error, ecolor="#374151")
            axes.annotate(
                f"{method_name(method)}  {mean:.0f}",
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
    with canvas(path, 6.4, 4.2) as figure:
        [axes] = panels(figure, ["Segmentation networks trained on pseudo-masks"], 1)
        for method, by_key in sections.items():
            points = network_points(by_key)
            fixed = sorted(point for key, point in points.items() if key not in _MARKERS)
            style: dict[str, Any] = {"color": colours[method], "capsize": 3}
            if fixed:
                thresholds, means, errors = zip(*fixed, strict=True)
                label = method_name(method)
                axes.errorbar(thresholds, means, errors, marker="o", label=label, **style)
            for key, (x, y, error) in points.items():
                if key in _MARKERS:
                    label = f"{method_name(method)}, {key}"
                    axes.errorbar(x, y, error, marker=_MARKERS[key], ls="", label=label, **style)
        for method, part in run.section("segmentation").items():
            if method not in sections and "val" in part:
                axes.axhline(
                    part["val"]["miou"]["mean"],
                    color=colours[method],
                    linestyle=":",
                    label=method_name(method),
                )
        axes.set(xlabel="threshold of the pseudo-masks", ylabel="mIoU on val, %")
        axes.set_ylim(bottom=0)
        figure.legend(loc="outside lower center", ncols=4)


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
            iou = sweep.plain.images().iou
            counted = iou[~np.isnan(iou).any(axis=1)]
            best = sweep.plain.thresholds[counted.argmax(axis=1)]
            weights = np.full(len(best), 100 / max(len(best), 1))
            axes.hist(best, edges, weights=weights, color=colours[method], edgecolor="white")
            if len(best):
                axes.axvline(float(np.median(best)), color="#111827", linewidth=1.2)
                axes.annotate(
                    f" median {np.median(best):.2f}", (float(np.median(best)), 1),
                    xycoords=("data", "axes fraction"), va="top", fontsize=8.5,
                )  # fmt: skip
            axes.set(xlabel="best threshold of an image", xlim=(0, 1))
        figure.axes[0].set_ylabel(f"images of {run.split}, %")


def activation_histograms(run: RunData, path: Path) -> None:
    """Draw the winner's activation inside true objects and in the true background."""
    sweeps = run.sweeps(run.split)
    need(sweeps, run, "threshold sweeps")
    colours = colours_of(run.methods)
    with canvas(path, 3.2 * min(3, len(sweeps)) + 0.6, 3.1 * -(-len(sweeps) // 3)) as figure:
        titles = [method_name(method) for method in sweeps]
        for axes, (method, sweep) in zip(panels(figure, titles, 3), sweeps.items(), strict=True):
            edges = np.concatenate([[0.0], sweep.plain.thresholds, [1.0]])
            inside, outside = sweep.plain.activation_histograms()
            coarse = np.linspace(0, 1, 26).tolist()
            for pixels, colour, alpha, label in (
                (outside, GREY, 0.55, "background"),
                (inside, colours[method], 0.7, "objects"),
            ):
                centres = (edges[1:] + edges[:-1]) / 2
                share = 100 * pixels / max(pixels.sum(), 1)
                axes.hist(centres, coarse, weights=share, color=colour, alpha=alpha, label=label)
            axes.set(xlabel="activation of the winner", xlim=(0, 1))
            axes.legend(loc="upper center")
        figure.axes[0].set_ylabel("pixels of the region, %")
