"""Several runs side by side: what their summaries, curves and configurations say."""

import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from matplotlib import rc_context
from matplotlib.figure import Figure

from workflow_scripts.errors import InputError
from workflow_scripts.evaluation.summary import flatten
from workflow_scripts.report.html import element, page, table
from workflow_scripts.report.names import method_name
from workflow_scripts.report.palette import colours_of
from workflow_scripts.report.run_tables import (
    Curve,
    curves_of,
    evaluated_split,
    read_summary,
    read_table,
)
from workflow_scripts.report.style import RULES, panels

_LINES = ("-", (0, (5, 2)), (0, (1.5, 1.5)), (0, (6, 2, 1, 2)))
_ABSENT = "–"


@dataclass(frozen=True)
class ComparedRun:
    """A finished run."""

    name: str
    summary: dict[str, Any]
    curves: dict[str, Curve]
    """mIoU over thresholds by method, of the split that the summary is about."""
    settings: dict[str, Any]
    """The resolved configuration, nested keys joined by dots."""


def read_run(folder: Path, configuration: str) -> ComparedRun:
    """Read a finished run; a configuration that is not there counts as empty.

    Raises InputError when the folder holds no summary.
    """
    summary = read_summary(folder / "summary.json")
    split = evaluated_split(summary)
    curves = curves_of(read_table(folder / "curves.csv"), "miou", split) if split else {}
    path = folder / configuration
    settings: Any = {}
    if path.is_file():
        try:
            settings = yaml.safe_load(path.read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
            raise InputError(f"{path}: not a readable configuration ({error})") from error
    return ComparedRun(folder.name, summary, curves, dict(_leaves(settings, "")))


def _leaves(value: Any, name: str) -> Iterator[tuple[str, Any]]:
    if isinstance(value, Mapping) and value:
        for key, below in value.items():
            yield from _leaves(below, f"{name}.{key}" if name else str(key))
    elif name:
        yield name, value


def unique_names(runs: Sequence[ComparedRun]) -> list[str]:
    """Return the runs' names, numbered where two folders are called the same."""
    names = [run.name for run in runs]
    return [
        name if names.count(name) == 1 else f"{name} ({position})"
        for position, name in enumerate(names, start=1)
    ]


def figure_rows(runs: Sequence[ComparedRun]) -> list[list[str]]:
    """Return one row for each figure that any run has: what it is, then its value in each run.

    Per-class figures are left out. IoU in percent.
    """
    found: list[dict[tuple[str, ...], str]] = []
    for run in runs:
        cells = {}
        for row in flatten(run.summary["methods"]):
            if not row["class"]:
                key = ("method", "section", "split", "threshold", "figure")
                cells[tuple(row[name] for name in key)] = _value(row)
        found.append(cells)
    keys = list(dict.fromkeys(key for cells in found for key in cells))
    return [[_title(key), *(cells.get(key, _ABSENT) for cells in found)] for key in keys]


def _title(key: tuple[str, ...]) -> str:
    method, section, split, threshold, figure = key
    at = f" at {threshold}" if threshold else ""
    words = f"{section} {figure}".replace("_", " ")
    return f"{method_name(method)}: {words}, {split}{at}"


def _value(row: dict[str, Any]) -> str:
    mean = f"{row['mean']:.2f}"
    return mean if row["std"] == "" else f"{mean} ± {row['std']:.2f}"


def setting_rows(runs: Sequence[ComparedRun]) -> list[list[str]]:
    """Return one row for each setting in which the runs differ."""
    keys = dict.fromkeys(key for run in runs for key in run.settings)
    rows = []
    for key in keys:
        values = [str(run.settings[key]) if key in run.settings else _ABSENT for run in runs]
        if len(set(values)) > 1:
            rows.append([key, *values])
    return rows


def curves_svg(runs: Sequence[ComparedRun]) -> str:
    """Return the curves of all runs in one plot: colours are methods, line styles are runs."""
    methods = list(dict.fromkeys(method for run in runs for method in run.curves))
    colours = colours_of(methods)
    with rc_context(RULES):
        figure = Figure(figsize=(8.4, 4.8))
        [axes] = panels(figure, ["mIoU at every background threshold"], 1)
        for position, (run, name) in enumerate(zip(runs, unique_names(runs), strict=True)):
            for method, curve in run.curves.items():
                axes.plot(
                    curve.thresholds,
                    curve.mean,
                    color=colours[method],
                    linestyle=_LINES[position % len(_LINES)],
                    label=f"{name}: {method_name(method)}",
                )
                if np.any(curve.spread):
                    band = (curve.mean - curve.spread, curve.mean + curve.spread)
                    axes.fill_between(
                        curve.thresholds, *band, color=colours[method], alpha=0.12, linewidth=0
                    )
        axes.set(xlabel="background threshold", ylabel="mIoU, %", xlim=(0, 1))
        axes.set_ylim(bottom=0)
        figure.legend(loc="outside lower center", ncols=3)
        stream = io.StringIO()
        figure.savefig(stream, format="svg", metadata={"Date": None})
    return stream.getvalue()[stream.getvalue().index("<svg") :]


def comparison_page(runs: Sequence[ComparedRun]) -> str:
    """Return the comparison as a self-contained page."""
    names = unique_names(runs)
    settings = setting_rows(runs)
    parts = [element("h1", f"Comparison of {', '.join(names)}")]
    if any(run.curves for run in runs):
        parts.append(f"<figure>{curves_svg(runs)}</figure>")
    parts += [
        element("h2", "Figures"),
        element("p", "Mean ± standard deviation over trials; IoU in percent.", "soft"),
        table(["Figure", *names], figure_rows(runs)),
        element("h2", "Configuration"),
        table(["Setting", *names], settings, "words")
        if settings
        else element("p", "The configurations do not differ.", "soft"),
    ]
    return page("Comparison", *parts)


def text_table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a table as aligned lines of text."""
    widths = [max(len(str(row[i])) for row in [columns, *rows]) for i in range(len(columns))]
    lines = [
        "  ".join(
            [str(row[0]).ljust(widths[0])]
            + [str(cell).rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True)]
        )
        for row in [columns, *rows]
    ]
    return "\n".join([lines[0], "-" * len(lines[0]), *lines[1:]])
