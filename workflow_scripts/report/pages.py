"""The report's pages of words and tables."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from workflow_scripts.evaluation.summary import flatten
from workflow_scripts.report.html import bullets, element, page, table
from workflow_scripts.report.names import method_name
from workflow_scripts.report.provenance import commit, hardware, versions
from workflow_scripts.report.verdict import verdict

_COLUMNS: tuple[tuple[str, tuple[str, ...], float], ...] = (
    ("Best mIoU", ("activations", "best_miou"), 1),
    ("Mean mIoU", ("activations", "mean_miou"), 1),
    ("Plateau, %", ("activations", "plateau"), 100),
    ("Mean mIoU after CRF", ("activations", "refined_mean_miou"), 1),
    ("Segmentation mIoU", ("segmentation", "miou"), 1),
)
_SECTIONS = {"pseudo_masks": "pseudo-masks", "segmentation": "segmentation network"}


def show(figure: dict[str, Any] | None, scale: float = 1) -> str:
    """Return "41.2 ± 0.6", without the deviation for one trial; "–" where there is no figure."""
    if not figure:
        return "–"
    mean = f"{scale * figure['mean']:.1f}"
    return mean if figure["std"] is None else f"{mean} ± {scale * figure['std']:.1f}"


def method_rows(summary: dict[str, Any], split: str | None) -> Iterator[list[str]]:
    """Yield one row a method of the main table."""
    for method, sections in summary["methods"].items():
        cells = []
        for _, (section, name), scale in _COLUMNS:
            of_split = "val" if section == "segmentation" else split
            cells.append(show(sections.get(section, {}).get(of_split, {}).get(name), scale))
        yield [method_name(method), *cells, str(summary["trials"])]


def difference_rows(differences: Sequence[dict[str, str]]) -> Iterator[list[str]]:
    """Yield one row for each paired difference between methods."""
    for row in differences:
        yield [
            f"{method_name(row['second'])} − {method_name(row['first'])}",
            f"{_SECTIONS.get(row['section'], row['section'])}, {row['split']}",
            row["threshold"],
            row["trial"],
            f"{float(row['difference']):+.1f}",
            f"{float(row['low']):+.1f} … {float(row['high']):+.1f}",
            "yes" if row["significant"] == "True" else "no",
            row["images"],
        ]


def front_page(
    summary: dict[str, Any], differences: Sequence[dict[str, str]], split: str | None
) -> str:
    """Return the claim, whether the run supports it, and the main tables."""
    result = verdict(summary, differences, split)
    images = ", ".join(f"{count} {name}" for name, count in summary["images"].items())
    parts = [
        element("p", f"Run {summary['run']} · {summary['dataset']} · {images}", "soft"),
        element("h1", "Does this run support the claim?"),
        element("p", result.claim, "claim") if result.claim else "",
        element("span", result.answer, f"badge {'yes' if result.answer == 'supported' else 'no'}"),
        element("p", result.paragraph),
        bullets(f"{'✓' if finding.holds else '✗'} {finding.text}" for finding in result.findings),
    ]
    parts += [
        element("h2", "Methods"),
        table(
            ["Method", *(name for name, _, _ in _COLUMNS), "Trials"], method_rows(summary, split)
        ),
        element(
            "p",
            f"Mean ± standard deviation over trials. Activations on {split}, segmentation on val;"
            " mIoU in percent. A dash: not computed.",
            "soft",
        )
        if split
        else element("p", "Nothing was measured: the dataset has no ground-truth masks.", "soft"),
    ]
    if differences:
        parts += [
            element("h2", "Differences between methods"),
            table(
                ["Methods", "Masks", "Threshold", "Trial", "mIoU, points", "Interval",
                 "Beyond chance", "Images"],
                difference_rows(differences),
            ),
            element("p", "Paired bootstrap over images, percentile interval.", "soft"),
        ]  # fmt: skip
    return page(f"{summary['run']}: summary", *parts)


def summary_table(summary: dict[str, Any]) -> str:
    """Return every figure of the run as a table."""
    rows = [
        [
            method_name(row["method"]),
            row["section"].replace("_", " "),
            row["split"],
            row["threshold"],
            " ".join(filter(None, [row["figure"].replace("_", " "), row["class"]])),
            f"{row['mean']:.3f}",
            "" if row["std"] == "" else f"{row['std']:.3f}",
            " ".join(f"{float(value):.3f}" for value in row["values"].split(";")),
        ]
        for row in flatten(summary["methods"])
    ]
    columns = ["Method", "Section", "Split", "Threshold", "Figure", "Mean", "Std", "Trials"]
    note = "IoU in percent; shares from 0 to 1. Std is empty for one trial."
    parts = [
        element("h1", "All figures"), element("p", note, "soft"), table(columns, rows, "words"),
    ]  # fmt: skip
    return page(f"{summary['run']}: all figures", *parts)


def provenance_page(
    summary: dict[str, Any], configuration: str, seeds: dict[int, int], code: Path
) -> str:
    """Return the resolved configuration, versions, commit, seeds and hardware."""
    revision = commit(code) or "not a git checkout"
    facts = [("run", summary["run"]), ("dataset", summary["dataset"]), ("commit", revision)]
    facts += [(f"seed of trial {trial}", str(seed)) for trial, seed in seeds.items()]
    return page(
        f"{summary['run']}: provenance",
        element("h1", "Provenance"),
        table(["What", "Value"], facts, "words"),
        element("h2", "Hardware"),
        element("p", "Of the machine that made this report.", "soft"),
        table(["What", "Value"], hardware(), "words"),
        element("h2", "Versions"),
        table(["Package", "Version"], versions(), "words"),
        element("h2", "Classes"),
        bullets(summary["classes"]),
        element("h2", "Configuration"),
        element("pre", configuration),
    )
