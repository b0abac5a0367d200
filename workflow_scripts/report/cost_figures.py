"""Figures about training and what the run cost."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from workflow_scripts.evaluation.run_results import TRUTH, source_key
from workflow_scripts.report.names import BASELINE, method_name
from workflow_scripts.report.palette import GREEN, GREY, SKY, colours_of
from workflow_scripts.report.run_data import RunData, need
from workflow_scripts.report.style import bars_only, canvas, panels

_FAST_SHARE = 0.002
_TIME, _MEMORY = SKY, GREEN


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
    """Title of the panel: "cam", ["t0.50", "segmentation"] → "network, masks at 0.50"."""
    if not rest:
        return "classifier" if method == BASELINE else method_name(method)
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
