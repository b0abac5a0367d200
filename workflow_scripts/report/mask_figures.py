"""Figures about seeds, pseudo-masks and predictions."""

from pathlib import Path

import numpy as np

from workflow_scripts.evaluation.confusion import Confusion
from workflow_scripts.report.names import method_name
from workflow_scripts.report.palette import GREEN, GREY, ORANGE, PURPLE, SKY, colours_of
from workflow_scripts.report.run_data import RunData, need
from workflow_scripts.report.style import bars_only, canvas, panels

_SEED_COLOURS = {"background": "#94A3B8", "foreground": GREEN, "ignored": "#E5E7EB"}
_ERROR_COLOURS = {
    "missed_object": SKY, "leaked_background": ORANGE, "wrong_class": PURPLE, "unlabelled": GREY,
}  # fmt: skip


def seed_composition(run: RunData, path: Path) -> None:
    """Draw the shares of background, foreground and ignored pixels in the seeds."""
    rows = {
        f"{method_name(method)}, {split}": figures
        for method, part in run.section("seeds").items()
        for split, figures in part.items()
        if "background" in figures
    }
    need(rows, run, "seeds")
    with canvas(path, 7.2, 1.5 + 0.42 * len(rows)) as figure:
        [axes] = panels(figure, ["What the seeds consist of"], 1)
        left = np.zeros(len(rows))
        for kind, colour in _SEED_COLOURS.items():
            shares = np.array([100 * figures[kind]["mean"] for figures in rows.values()])
            bars = axes.barh(list(rows), shares, 0.72, left=left, color=colour, label=kind)
            texts = [f"{share:.0f}" if share >= 4 else "" for share in shares]
            axes.bar_label(bars, texts, label_type="center", fontsize=9)
            left += shares
        axes.set(xlabel="pixels, %", xlim=(0, 100))
        axes.invert_yaxis()
        bars_only(axes)
        figure.legend(loc="outside lower center", ncols=3)


def per_class_iou(run: RunData, path: Path) -> None:
    """Draw the segmentation network's IoU of each class, for every method."""
    sections = {
        method: part["val"]["per_class"]
        for method, part in run.section("segmentation").items()
        if "val" in part
    }
    need(sections, run, "segmentation networks that were evaluated")
    names = [
        name
        for name in ("background", *run.summary["classes"])
        if any(name in part for part in sections.values())
    ]
    colours = colours_of(run.methods)
    height = 0.84 / len(sections)
    with canvas(path, 7.2, 1.4 + (0.22 + 0.17 * len(sections)) * len(names)) as figure:
        [axes] = panels(figure, ["Segmentation network on val"], 1)
        for i, (method, part) in enumerate(sections.items()):
            known = [(y, part[name]) for y, name in enumerate(names) if name in part]
            errors = [iou["std"] or 0 for _, iou in known]
            bars = axes.barh(
                [y + (i - (len(sections) - 1) / 2) * height for y, _ in known],
                [iou["mean"] for _, iou in known],
                height * 0.92,
                xerr=errors if any(errors) else None,
                error_kw={"elinewidth": 1, "ecolor": "#374151"},
                color=colours[method],
                label=method_name(method),
            )
            values = [f"{iou['mean']:.0f}" for _, iou in known]
            axes.bar_label(bars, values, padding=4, fontsize=7.5, color="#4B5563")
        axes.set_yticks(range(len(names)), names)
        axes.set(xlabel="IoU, %", xlim=(0, 100))
        axes.invert_yaxis()
        bars_only(axes)
        figure.legend(loc="outside lower center", ncols=4)


def confusion(run: RunData, path: Path) -> None:
    """Draw the confusion of the segmentation network's classes, for every method."""
    found = run.confusions("segmentation", "val")
    need(found, run, "segmentation networks that were evaluated")
    names = ["background", *run.summary["classes"]]
    side = max(2.6, 0.32 * len(names) + 1.3)
    columns = min(len(found), 3 if len(names) <= 12 else 2)
    rows = -(-len(found) // columns)
    with canvas(path, side * columns + 0.9, (side + 0.9) * rows) as figure:
        titles = [method_name(method) for method in found]
        for axes, trials in zip(panels(figure, titles, columns), found.values(), strict=True):
            shares = _row_shares(trials[0])
            image = axes.imshow(shares, cmap="cividis", vmin=0, vmax=100)
            axes.set_xticks(range(len(names)), names, rotation=60, ha="right")
            axes.set_yticks(range(len(names)), names)
            axes.grid(visible=False)
            if len(names) <= 12:
                for y, x in np.argwhere(np.nan_to_num(shares) >= 0.5):
                    tone = "#111827" if shares[y, x] > 55 else "white"
                    text = f"{shares[y, x]:.0f}"
                    axes.text(x, y, text, ha="center", va="center", color=tone, fontsize=7.5)
            axes.set_xlabel("predicted")
        for axes in figure.axes[::columns]:
            axes.set_ylabel("true class")
        figure.colorbar(image, ax=figure.axes, shrink=0.7, label="pixels of the true class, %")


def _row_shares(counts: Confusion) -> np.ndarray:
    """Percent of each true class's labelled pixels, float64[C+1, C+1]; NaN where it has none."""
    square = counts.counts[:, :-1].astype(np.float64)
    total = square.sum(axis=1, keepdims=True)
    empty = np.full(square.shape, np.nan)
    return 100 * np.divide(square, total, out=empty, where=total > 0)


def error_kinds(run: RunData, path: Path) -> None:
    """Draw the shares of wrong pixels by kind, for pseudo-masks and predictions."""
    rows: dict[str, dict[str, float]] = {}
    groups = [("segmentation", "val"), *(("pseudo_masks", split) for split in run.folder.shards)]
    titles = {"segmentation": "prediction", "pseudo_masks": "pseudo-mask"}
    for kind, split in groups:
        for method, trials in run.confusions(kind, split).items():
            label = f"{method_name(method)}\n{titles[kind]}, {split}"
            rows[label] = {
                name: 100 * float(np.mean([getattr(t.errors("wrong"), name) for t in trials]))
                for name in _ERROR_COLOURS
            }
    need(rows, run, "masks that were evaluated")
    with canvas(path, 7.2, 1.5 + 0.5 * len(rows)) as figure:
        [axes] = panels(figure, ["Wrong pixels by kind"], 1)
        left = np.zeros(len(rows))
        for name, colour in _ERROR_COLOURS.items():
            shares = np.array([row[name] for row in rows.values()])
            if not shares.any():
                continue
            label = name.replace("_", " ")
            bars = axes.barh(list(rows), shares, 0.72, left=left, color=colour, label=label)
            texts = [f"{share:.1f}" if share >= 0.8 else "" for share in shares]
            axes.bar_label(bars, texts, label_type="center", fontsize=8.5)
            left += shares
        axes.set_xlabel("share of all pixels, %")
        axes.invert_yaxis()
        bars_only(axes)
        if axes.patches:
            figure.legend(loc="outside lower center", ncols=4)
