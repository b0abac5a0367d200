"""Figures about training and what the run cost."""

from pathlib import Path

import numpy as np
from matplotlib.ticker import MaxNLocator

from workflow_scripts.report.names import method_name
from workflow_scripts.report.palette import BLUE, GREY, PURPLE, colours_of
from workflow_scripts.report.run_data import RunData, need
from workflow_scripts.report.style import bars_only, canvas, panels

_FAST_SHARE = 0.002


def training_curves(run: RunData, path: Path) -> None:
    """Draw the loss of each network by epoch, one line a trial."""
    losses = dict(sorted(run.losses().items(), key=lambda item: _order(item[0], run)))
    need(losses, run, "training tables")
    colours = colours_of(run.methods)
    rows = -(-len(losses) // 3)
    with canvas(path, 3.0 * min(3, len(losses)) + 0.4, 2.5 * rows) as figure:
        titles = [_network_title(network) for network in losses]
        grid = panels(figure, titles, 3, share_y=False)
        for axes, (network, trials) in zip(grid, losses.items(), strict=True):
            for loss in trials:
                axes.plot(
                    np.arange(1, len(loss) + 1),
                    loss,
                    color=colours.get(network.split("/")[0], GREY),
                    marker="o" if len(loss) < 25 else "",
                    markersize=3.5,
                    alpha=1 if len(trials) == 1 else 0.7,
                )
            axes.set(xlabel="epoch", ylabel="loss")
            axes.xaxis.set_major_locator(MaxNLocator(integer=True))
            axes.set_ylim(bottom=0)


def _order(network: str, run: RunData) -> tuple[int, int, str]:
    """Methods as the run lists them, each with its own network before those trained from it."""
    method, *rest = network.split("/")
    known = run.methods.index(method) if method in run.methods else len(run.methods)
    return known, len(rest), network


def _network_title(network: str) -> str:
    """ "cam/t0.50/segmentation" → "CAM, segmentation at 0.50"."""
    method, *rest = network.split("/")
    name = method_name(method)
    if not rest:
        return name
    if len(rest) == 1:
        return f"{name}, {rest[0]}"
    source, kind = rest[0], rest[-1]
    return f"{name}\n{kind}" + (f" at {source[1:]}" if source.startswith("t0") else "")


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
            figure, [f"Wall time, {_clock(total)} in all", "Peak memory of a job"], 2
        )
        values = [costs[stage].seconds / (60 if slow else 1) for stage in shown]
        bars = time.barh(shown, values, 0.72, color=BLUE)
        time.bar_label(bars, [_clock(costs[stage].seconds) for stage in shown], padding=4)
        time.set_xlabel("minutes" if slow else "seconds")
        peaks = [(costs[stage].megabytes or 0) / 1024 for stage in shown]
        bars = memory.barh(shown, peaks, 0.72, color=PURPLE)
        memory.bar_label(bars, [f"{peak:.1f}" if peak else "–" for peak in peaks], padding=4)
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
