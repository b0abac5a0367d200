"""The tables of docs/thresholds.md, from what compare_thresholds wrote.

`python -m tools.threshold_table study-train.csv …` writes them anew: the first
file's in full, then the regrets of all.
"""

import csv
import sys
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from statistics import mean

from tools.documentation import ROOT, between
from workflow_scripts.report.names import method_name

DOCUMENT = ROOT / "docs" / "thresholds.md"
BEGIN = "<!-- rules: made by `python -m tools.threshold_table` -->"
END = "<!-- end of rules -->"

Row = dict[str, str]


def read_rows(path: Path) -> list[Row]:
    """Rows of one file, of one run and split."""
    with path.open(encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))


def _cells(rows: Sequence[Row], column: str) -> dict[tuple[str, str], list[float]]:
    """Values over the trials, by rule and method."""
    found: dict[tuple[str, str], list[float]] = defaultdict(list)
    for row in rows:
        found[_rule(row["rule"]), row["method"]].append(float(row[column]))
    return found


def _rule(name: str) -> str:
    """The agreement with another method is one rule, whichever the other is."""
    return name.partition(" with ")[0]


def _lines(heads: Sequence[str], body: Sequence[Sequence[str]]) -> str:
    rows = [heads, ["---", *["---:"] * (len(heads) - 1)], *body]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def _ordered(rows: Sequence[Row]) -> list[str]:
    """Rules by the mean of their regrets over methods and trials, smallest first."""
    regrets: dict[str, list[float]] = defaultdict(list)
    for row in rows:
        regrets[_rule(row["rule"])].append(float(row["regret"]))
    return sorted(regrets, key=lambda rule: mean(regrets[rule]))


def _methods(rows: Sequence[Row]) -> list[str]:
    return list(dict.fromkeys(row["method"] for row in rows))


def full_table(rows: Sequence[Row]) -> str:
    """Threshold, mIoU and regret of each rule and method; each trial's regret behind the mean."""
    columns = {name: _cells(rows, name) for name in ("threshold", "miou", "regret")}
    heads, body = ["rule"], []
    for method in _methods(rows):
        title = method_name(method)
        best = mean(float(row["best_miou"]) for row in rows if row["method"] == method)
        at = mean(float(row["best_threshold"]) for row in rows if row["method"] == method)
        heads += [f"{title} (best {best:.1f} at {at:.2f}): threshold", "mIoU", "regret (trials)"]
    for rule in _ordered(rows):
        cells = [rule]
        for method in _methods(rows):
            threshold, miou, regrets = (columns[name][rule, method] for name in columns)
            if not regrets:
                cells += ["", "", ""]
                continue
            trials = ", ".join(f"{regret:.1f}" for regret in regrets)
            cells += [
                f"{mean(threshold):.2f}",
                f"{mean(miou):.1f}",
                f"{mean(regrets):.1f} ({trials})",
            ]
        body.append(cells)
    return _lines(heads, body)


def regret_table(files: Sequence[Sequence[Row]]) -> str:
    """Mean regret of each rule, a column for each run, split and method; last the largest."""
    heads, columns = ["rule"], []
    for rows in files:
        regrets = _cells(rows, "regret")
        for method in _methods(rows):
            heads.append(f"{rows[0]['run']} {rows[0]['split']}, {method_name(method)}")
            columns.append({rule: mean(v) for (rule, of), v in regrets.items() if of == method})
    body = []
    for rule in _ordered([row for rows in files for row in rows]):
        values = [column[rule] for column in columns if rule in column]
        shown = [f"{column[rule]:.1f}" if rule in column else "" for column in columns]
        body.append([rule, *shown, f"{mean(values):.1f}", f"{max(values):.1f}"])
    return _lines([*heads, "mean", "largest"], body)


def tables(files: Sequence[Sequence[Row]]) -> str:
    """Everything between the markers."""
    first = files[0]
    trials = len({row["trial"] for row in first})
    said = f"Run `{first[0]['run']}`, split {first[0]['split']}, {trials} trial(s):"
    return f"{said}\n\n{full_table(first)}\n\nMean regret everywhere:\n\n{regret_table(files)}"


def main() -> None:
    """Write the tables into docs/thresholds.md."""
    content = tables([read_rows(Path(name)) for name in sys.argv[1:]])
    text = between(DOCUMENT.read_text(encoding="utf-8"), BEGIN, END, content)
    DOCUMENT.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
