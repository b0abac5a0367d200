"""The look of all figures, and their output as vector graphics."""

import logging
import warnings
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib import font_manager
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ft2font import FT2Font

from workflow_scripts.storage.atomic import atomic_path

logger = logging.getLogger(__name__)

_LONGEST_LABEL = 32
_FAMILY = "DejaVu Sans"
_REGULAR = (400, "normal", "regular", "book")
# Has a box for every character, so that it would hide what is missing.
_LAST_RESORT = "Last Resort"
_INK, _SOFT, _FAINT = "#1F2937", "#4B5563", "#E5E7EB"
RULES: Any = {
    "svg.hashsalt": "workflow_scripts",
    # Names of people's classes are no formulas: `$` stands for itself.
    "text.parse_math": False,
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


@contextmanager
def fonts_for(names: Iterable[str]) -> Iterator[None]:
    """Let figures show names in any script, as far as an installed font has it; else warn, once."""
    missing = {character for name in names for character in name if character.isprintable()}
    missing = _lacking(font_manager.findfont(_FAMILY), missing)
    families = [_FAMILY]
    for font in sorted(font_manager.fontManager.ttflist, key=lambda font: font.name):
        if not missing:
            break
        regular = font.style == "normal" and font.weight in _REGULAR
        if not regular or font.name.startswith(_LAST_RESORT):
            continue
        left = _lacking(font.fname, missing)
        if left != missing:
            families.append(font.name)
            missing = left
    if missing:
        logger.warning(
            "figures: no installed font has %s of the classes' names, which show as boxes; install one "
            "(Debian: fonts-noto-core, fonts-noto-cjk), empty matplotlib's cache of fonts (%s) and draw "
            "the figures again",
            " ".join(sorted(missing)[:20]), matplotlib.get_cachedir(),
        )  # fmt: skip
    with matplotlib.rc_context({"font.family": families}), warnings.catch_warnings():
        # It says the same of every character, each time that it is drawn.
        warnings.filterwarnings("ignore", r"Glyph \d+ .* missing from font")
        yield


def _lacking(path: str, characters: set[str]) -> set[str]:
    """Those of some characters that a font's file has no glyph for; all where it cannot be read."""
    try:
        font = FT2Font(path)
    except (OSError, RuntimeError):
        return characters
    return {one for one in characters if not font.get_char_index(ord(one))}


def label_of(name: str) -> str:
    """Return a class name as a figure has room for: the middle of a long one is left out."""
    if len(name) <= _LONGEST_LABEL:
        return name
    half = (_LONGEST_LABEL - 1) // 2
    return f"{name[:half]}…{name[-half:]}"


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
