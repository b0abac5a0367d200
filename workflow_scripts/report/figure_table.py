"""Every figure of a run, methods side by side."""

from collections.abc import Iterator, Sequence
from typing import Any

from workflow_scripts.evaluation.summary import flatten
from workflow_scripts.report.html import Markup, element, page, table
from workflow_scripts.report.names import SECTIONS, figure_name, made_at, method_name

Place = tuple[str, str, str]
Row = tuple[str, str]


def summary_table(summary: dict[str, Any]) -> str:
    """Return the page: a table for each part of the workflow, split and threshold."""
    methods = list(summary["methods"])
    found: dict[Place, dict[Row, dict[str, dict[str, Any]]]] = {}
    for row in distinct_rows(summary["methods"]):
        place = (row["section"], row["split"], row["threshold"])
        figures = found.setdefault(place, {})
        figures.setdefault((row["figure"], row["class"]), {})[row["method"]] = row
    note = (
        "Mean ± standard deviation over trials, and beneath it the value of each trial."
        if summary["trials"] > 1
        else "A single trial: there is no spread to show."
    )
    parts = [element("h1", "Every figure"), element("p", note, "soft")]
    for (section, split, threshold), figures in found.items():
        parts.append(element("h2", place_title(section, split, threshold)))
        shown = [m for m in methods if any(m in by_method for by_method in figures.values())]
        parts.append(
            table(
                ["", *map(method_name, shown)],
                (_cells(section, row, by_method, shown) for row, by_method in figures.items()),
                "figures",
            )
        )
    return page(f"{summary['run']}: every figure", *parts)


def distinct_rows(methods: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Rows of the summary, each once: the first threshold stands among the others with its name."""
    for method, sections in methods.items():
        by_threshold = sections.get("by_threshold", {})
        for row in flatten({method: sections}):
            repeated = row["section"] in ("pseudo_masks", "segmentation") and not row["threshold"]
            if not (repeated and by_threshold):
                yield row


def place_title(section: str, split: str, threshold: str) -> str:
    """Return what figures are about: "Pseudo-masks on val, at 0.50"."""
    masks = f"masks {made_at(threshold)}" if section == "segmentation" else made_at(threshold)
    title = f"{SECTIONS.get(section, section)} on {split}"
    return f"{title}, {masks}" if threshold else title


def _cells(
    section: str, row: Row, by_method: dict[str, dict[str, Any]], methods: Sequence[str]
) -> list[str]:
    words, factor, decimals = figure_name(section, *row)
    cells = [words]
    for method in methods:
        figure = by_method.get(method)
        cells.append("–" if figure is None else _cell(figure, factor, decimals))
    return cells


def _cell(figure: dict[str, Any], factor: float, decimals: int) -> str:
    mean = f"{factor * figure['mean']:.{decimals}f}"
    if figure["std"] == "":
        return mean
    values = [f"{factor * float(value):.{decimals}f}" for value in figure["values"].split(";")]
    spread = f"{factor * figure['std']:.{decimals}f}"
    return Markup(
        element("span", f"{mean} ± {spread}") + element("small", " · ".join(values), "trials")
    )
