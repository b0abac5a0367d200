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
from workflow_scripts.report.figure_style import RULES, panels
from workflow_scripts.report.html import element, page, table
from workflow_scripts.report.names import (
    colours_of,
    figure_name,
    method_name,
    refinement_of,
    signed,
)
from workflow_scripts.report.pages import distinct_rows, place_title
from workflow_scripts.report.run_data import (
    Curve,
    curves_of,
    evaluated_split,
    read_summary,
    read_table,
)

_LINES = ("-", (0, (5, 2)), (0, (1.5, 1.5)), (0, (6, 2, 1, 2)))
_ABSENT = "–"


@dataclass(frozen=True)
class ComparedRun:
    """A finished run."""

    name: str
    summary: dict[str, Any]
    split: str | None
    """The split that the summary is about; None without ground truth."""
    curves: dict[str, Curve]
    """mIoU over thresholds by method, of that split."""
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
    return ComparedRun(folder.name, summary, split, curves, dict(_leaves(settings, "")))


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


def figure_groups(runs: Sequence[ComparedRun]) -> dict[str, list[list[str]]]:
    """Return the figures that any run has, by what they are about: a row is a figure's name, then its
    value in each run, and for two runs the difference, second minus first.

    Per-class figures are left out.
    """
    found: dict[str, dict[str, dict[int, dict[str, Any]]]] = {}
    for position, run in enumerate(runs):
        for row in distinct_rows(run.summary["methods"]):
            if not row["class"]:
                title = place_title(row["section"], row["split"], row["threshold"])
                words, *_ = figure_name(
                    row["section"], row["figure"], refinement=refinement_of(run.summary)
                )
                name = f"{method_name(row['method'])}: {words}"
                found.setdefault(title, {}).setdefault(name, {})[position] = row
    return {
        title: [[name, *_values(by_run, len(runs))] for name, by_run in figures.items()]
        for title, figures in found.items()
    }


def figure_columns(runs: Sequence[ComparedRun]) -> list[str]:
    """Return the heads of the columns of `figure_groups`."""
    return ["Figure", *unique_names(runs), *(["Difference"] if len(runs) == 2 else [])]


def _values(by_run: dict[int, dict[str, Any]], runs: int) -> list[str]:
    cells = [_value(by_run[i]) if i in by_run else _ABSENT for i in range(runs)]
    if runs == 2:
        cells.append(_difference(*by_run.values()) if len(by_run) == 2 else _ABSENT)
    return cells


def _value(row: dict[str, Any]) -> str:
    _, factor, decimals = figure_name(row["section"], row["figure"])
    mean = f"{factor * row['mean']:.{decimals}f}"
    return mean if row["std"] == "" else f"{mean} ± {factor * row['std']:.{decimals}f}"


def _difference(first: dict[str, Any], second: dict[str, Any]) -> str:
    _, factor, decimals = figure_name(first["section"], first["figure"])
    return signed(factor * (second["mean"] - first["mean"]), decimals)


def setting_rows(runs: Sequence[ComparedRun]) -> list[list[str]]:
    """Return one row for each setting in which the runs differ."""
    keys = dict.fromkeys(key for run in runs for key in run.settings)
    rows = []
    for key in keys:
        values = [_setting(run.settings[key]) if key in run.settings else _ABSENT for run in runs]
        if len(set(values)) > 1:
            rows.append([key, *values])
    return rows


def _setting(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def curves_svg(runs: Sequence[ComparedRun]) -> str:
    """Return the curves of all runs in one plot: colours are methods, line styles are runs."""
    methods = list(dict.fromkeys(method for run in runs for method in run.curves))
    colours = colours_of(methods)
    with rc_context(RULES):
        figure = Figure(figsize=(8.4, 4.8))
        [axes] = panels(figure, ["Activations at every background threshold"], 1)
        splits = " and ".join(dict.fromkeys(run.split for run in runs if run.split))
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
        axes.set(xlabel="background threshold", ylabel=f"mIoU on {splits}, %", xlim=(0, 1))
        axes.set_ylim(bottom=0)
        figure.legend(loc="outside lower center", ncols=min(4, len(runs)))
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
        note = "Colours are methods, line styles are runs; a band is one standard deviation over trials."
        parts.append(element("p", note, "soft"))
    parts.append(element("p", "Figures are mean ± standard deviation over trials.", "soft"))
    for title, rows in figure_groups(runs).items():
        parts += [element("h2", title), table(figure_columns(runs), rows, "figures")]
    parts.append(element("h2", "Configuration"))
    if settings:
        parts.append(table(["Setting", *names], settings, "words"))
    else:
        parts.append(element("p", "The configurations do not differ.", "soft"))
    return page("Comparison", *parts)


def text_table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a table as aligned lines of text; a row of one cell is a heading."""
    whole = [row for row in [columns, *rows] if len(row) == len(columns)]
    widths = [max(len(str(row[i])) for row in whole) for i in range(len(columns))]
    lines = [
        "  ".join(
            [str(row[0]).ljust(widths[0])]
            + [str(cell).rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True)]
        )
        if len(row) == len(columns)
        else row[0]
        for row in [columns, *rows]
    ]
    return "\n".join([lines[0], "-" * len(lines[0]), *lines[1:]])
