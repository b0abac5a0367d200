"""The look of all figures, and their output as vector graphics."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from workflow_scripts.storage.atomic import atomic_path

_INK, _SOFT, _FAINT = "#1F2937", "#4B5563", "#E5E7EB"
RULES: Any = {
    "svg.hashsalt": "workflow_scripts",
    "figure.constrained_layout.use": True,
    "font.size": 9.5,
    "axes.titlesize": 10.5,
    "axes.titlelocation": "left",
    "axes.titleweight": "bold",
    "axes.titlepad": 10,
    "axes.labelcolor": _INK,
    "axes.edgecolor": "#9CA3AF",
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": _FAINT,
    "grid.linewidth": 0.8,
    "text.color": _INK,
    "xtick.color": _SOFT,
    "ytick.color": _SOFT,
    "lines.linewidth": 2.0,
    "legend.frameon": False,
    "legend.fontsize": 9,
}


@contextmanager
def canvas(path: Path, width: float, height: float) -> Iterator[Figure]:
    """Yield an empty figure of a size in inches; on success it is written as SVG.

    Equal content gives equal bytes: no date, fixed identifiers.
    """
    with matplotlib.rc_context(RULES):
        figure = Figure(figsize=(width, height))
        yield figure
        with atomic_path(path) as temporary:
            figure.savefig(temporary, format="svg", metadata={"Date": None})


def panels(figure: Figure, titles: Sequence[str], columns: int, share_y: bool = True) -> list[Axes]:
    """Return one axes for each title, row by row; only the leftmost ones keep y labels."""
    columns = min(columns, len(titles))
    rows = -(-len(titles) // columns)
    grid = figure.subplots(rows, columns, squeeze=False, sharey=share_y).ravel()
    for axes, title in zip(grid, titles, strict=False):
        axes.set_title(title)
    for axes in grid[len(titles) :]:
        axes.set_visible(False)
    return list(grid[: len(titles)])


def subtitle(axes: Axes, text: str) -> None:
    """Write a line in small type between the title of an axes and its plot."""
    axes.set_title(axes.get_title(loc="left"), pad=22)
    axes.annotate(
        text, (0, 1), xytext=(0, 7), textcoords="offset points", xycoords="axes fraction",
        fontsize=8.5, color=_SOFT,
    )  # fmt: skip


def bars_only(axes: Axes) -> None:
    """Keep only the grid lines that bars of this direction are read against."""
    axes.grid(visible=False, axis="y")
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)
