"""Figures about seeds, networks and their predictions, training, and what the run cost."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from workflow_scripts.evaluation.confusion import Confusion
from workflow_scripts.evaluation.run_results import TRUTH, source_key
from workflow_scripts.report.figure_style import bars_only, canvas, label_of, panels
from workflow_scripts.report.names import GREEN, GREY, ORANGE, PURPLE, SKY, colours_of, method_name
from workflow_scripts.report.run_data import RunData, need

_SEED_COLOURS = {"background": "#94A3B8", "foreground": GREEN, "ignored": "#E5E7EB"}
_ERROR_COLOURS = {
    "missed_object": SKY, "leaked_background": ORANGE, "wrong_class": PURPLE, "unlabelled": GREY,
}  # fmt: skip


_FAST_SHARE = 0.002
_TIME, _MEMORY = SKY, GREEN


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
        axes.set_yticks(range(len(names)), [label_of(name) for name in names])
        axes.set(xlabel="IoU, %", xlim=(0, 100))
        axes.invert_yaxis()
        bars_only(axes)
        figure.legend(loc="outside lower center", ncols=4)


def confusion(run: RunData, path: Path) -> None:
    """Draw the confusion of the segmentation network's classes, for every method."""
    found = run.confusions("segmentation", "val")
    need(found, run, "segmentation networks that were evaluated")
    names = ["background", *run.summary["classes"]]
    labels = [label_of(name) for name in names]
    side = max(2.6, 0.32 * len(names) + 0.7 + 0.055 * max(map(len, labels)))
    columns = min(len(found), 3 if len(names) <= 12 else 2)
    rows = -(-len(found) // columns)
    with canvas(path, side * columns + 0.9, (side + 0.9) * rows) as figure:
        titles = [method_name(method) for method in found]
        for axes, trials in zip(panels(figure, titles, columns), found.values(), strict=True):
            shares = _row_shares(trials[0])
            image = axes.imshow(shares, cmap="cividis", vmin=0, vmax=100)
            axes.set_xticks(range(len(names)), labels, rotation=60, ha="right")
            axes.set_yticks(range(len(names)), labels)
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


def training_curves(run: RunData, path: Path) -> None:
    """Draw the loss of each network by epoch, one line a trial; those of one kind side by side."""
    losses = dict(sorted(run.losses().items(), key=lambda item: _order(item[0], run)))
    need(losses, run, "training tables")
    colours = colours_of(run.methods)
    kinds: dict[str, dict[str, list[np.ndarray]]] = {}
    for network, trials in losses.items():
        method, *rest = network.split("/")
        kinds.setdefault(_kind(method, rest), {})[method] = trials
    columns = min(4, len(kinds))
    rows = -(-len(kinds) // columns)
    with canvas(path, 2.8 * columns + 0.4, 2.4 * rows + 0.5) as figure:
        for axes, networks in zip(
            panels(figure, list(kinds), columns, share_y=False), kinds.values(), strict=True
        ):
            for method, trials in networks.items():
                for loss in trials:
                    axes.plot(
                        np.arange(1, len(loss) + 1),
                        loss,
                        color=colours.get(method, GREY),
                        marker="o" if len(loss) < 25 else "",
                        markersize=3,
                        linewidth=1.6,
                        alpha=1 if len(trials) == 1 else 0.7,
                    )
            axes.set_xlabel("epoch")
            axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
            axes.set_ylim(bottom=0)
        for axes in figure.axes[::columns]:
            axes.set_ylabel("training loss")
        methods = dict.fromkeys(method for networks in kinds.values() for method in networks)
        lines = [Line2D([], [], color=colours.get(method, GREY)) for method in methods]
        names = [method_name(method) for method in methods]
        figure.legend(lines, names, loc="outside lower center", ncols=len(names))


def _order(network: str, run: RunData) -> tuple[int, int, int]:
    """What is trained first comes first; sources and methods as the run lists them."""
    method, *rest = network.split("/")
    sources = [*run.sources, TRUTH]
    source = sources.index(rest[0]) if rest and rest[0] in sources else len(sources)
    known = run.methods.index(method) if method in run.methods else len(run.methods)
    return len(rest), source, known


def _kind(method: str, rest: Sequence[str]) -> str:
    """Title of the panel: a method and ["t0.50", "segmentation"] → "network, masks at 0.50"."""
    if not rest:
        return method_name(method)
    if len(rest) == 1:
        return rest[0]
    return "network, true masks" if rest[0] == TRUTH else f"network, masks at {source_key(rest[0])}"


def wall_time(run: RunData, path: Path) -> None:
    """Draw wall time and peak memory of each stage, slowest first."""
    costs = run.costs()
    ranked = sorted(costs, key=lambda stage: -costs[stage].seconds)
    total = sum(cost.seconds for cost in costs.values())
    shown = [stage for stage in ranked if costs[stage].seconds >= _FAST_SHARE * total]
    with canvas(path, 8.6, 1.3 + 0.3 * max(2, len(shown))) as figure:
        if not shown:
            [axes] = panels(figure, ["Wall time by stage"], 1)
            axes.text(0.5, 0.5, "no benchmarks were written", ha="center", va="center")
            axes.set_axis_off()
            return
        slow = max(costs[stage].seconds for stage in shown) > 600
        time, memory = panels(
            figure, [f"Wall time, {_clock(total)} in all", "Largest peak memory of a job"], 2
        )
        values = [costs[stage].seconds / (60 if slow else 1) for stage in shown]
        bars = time.barh(shown, values, 0.72, color=_TIME)
        time.bar_label(bars, [_clock(costs[stage].seconds) for stage in shown], padding=4)
        time.set_xlabel("minutes" if slow else "seconds")
        peaks = [(costs[stage].megabytes or 0) / 1024 for stage in shown]
        bars = memory.barh(shown, peaks, 0.72, color=_MEMORY)
        memory.bar_label(bars, [_size(costs[stage].megabytes) for stage in shown], padding=4)
        memory.set_xlabel("GiB resident")
        time.invert_yaxis()
        for axes in (time, memory):
            bars_only(axes)
            axes.margins(x=0.2)


def _clock(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 5400:
        return f"{seconds / 60:.1f} min"
    return f"{seconds / 3600:.1f} h"


def _size(megabytes: float | None) -> str:
    if megabytes is None:
        return "–"
    return f"{megabytes:.0f} MiB" if megabytes < 100 else f"{megabytes / 1024:.1f} GiB"
