"""The table of results in docs/results.md, and its short form in README.md, from the summary of a run.

`python -m tools.result_table results/study/summary.json` writes it anew.
"""

import json
import sys
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from tools.documentation import ROOT, between
from workflow_scripts.report.names import method_name, refinement_of

BEGIN = "<!-- result: made by `python -m tools.result_table` -->"
END = "<!-- end of result -->"
ACTIVATION_COLUMNS = {
    "best_miou": "best threshold",
    "mean_miou": "mean over thresholds",
    "plateau": "plateau",
    "refined_mean_miou": "after {refinement}, mean over thresholds",
}


# What README shows of them.
SHORT = ("best_miou", "mean_miou", "plateau", "auto")


def _cell(figure: Mapping[str, Any] | None, factor: float = 1.0, unit: str = "") -> str:
    """Mean ± standard deviation; empty for what was not computed."""
    if figure is None:
        return ""
    mean = f"{factor * figure['mean']:.1f}"
    spread = f" ± {factor * figure['std']:.1f}" if figure["std"] is not None else ""
    return f"{mean}{spread}{unit}"


def result_table(summary: Mapping[str, Any], split: str = "val", only: Collection[str] = ()) -> str:
    """Markdown: a row for each method; activations on `split`, then a network for each threshold.

    Args:
        summary: Content of summary.json.
        split: Split of the figures.
        only: Names of the figures and thresholds to show; all if empty.
    """
    columns = {
        name: title.format(refinement=refinement_of(summary))
        for name, title in ACTIVATION_COLUMNS.items()
        if not only or name in only
    }
    methods = summary["methods"]
    thresholds = sorted(
        key
        for key in {key for method in methods.values() for key in method.get("by_threshold", {})}
        if not only or key in only
    )
    heads = [f"activations: {title}" for title in columns.values()]
    heads += [f"network from masks at {threshold}" for threshold in thresholds]
    lines = [f"| method | {' | '.join(heads)} |", "| --- |" + " ---: |" * len(heads)]
    for name, method in methods.items():
        figures = method.get("activations", {}).get(split, {})
        cells = [
            _cell(figures.get(key), 100, " %") if key == "plateau" else _cell(figures.get(key))
            for key in columns
        ]
        for threshold in thresholds:
            # A reference that needs no threshold stands in every column.
            source = method.get("by_threshold", {}).get(threshold, {}) if figures else method
            cells.append(_cell(source.get("segmentation", {}).get(split, {}).get("miou")))
        lines.append(f"| {method_name(name)} | {' | '.join(cells)} |")
    images, trials = summary["images"], summary["trials"]
    counts = ", ".join(f"{images[name]} {name} images" for name in images)
    lines.append(f"\nRun `{summary['run']}`: {counts}, {trials} trial{'s' if trials > 1 else ''}.")
    return "\n".join(lines)


def main() -> None:
    """Write the tables into docs/results.md and README.md."""
    summary = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    for name, only in (("docs/results.md", ()), ("README.md", SHORT)):
        page = ROOT / name
        text = between(
            page.read_text(encoding="utf-8"), BEGIN, END, result_table(summary, only=only)
        )
        page.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
