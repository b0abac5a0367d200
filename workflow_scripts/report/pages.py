"""The report's front page (the claim, the numbers and all plots), and its table of every figure of a run."""

from collections.abc import Iterator, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

from workflow_scripts.datasets.consistency import COUNTS
from workflow_scripts.evaluation.summary import flatten
from workflow_scripts.report.catalogue import FIGURES
from workflow_scripts.report.claim import Verdict, verdict
from workflow_scripts.report.html import Markup, bullets, data_uri, element, page, table
from workflow_scripts.report.names import (
    SECTIONS,
    compared_pair,
    figure_name,
    made_at,
    mean_std,
    method_name,
    refinement_of,
    signed,
)

_COLUMNS: tuple[tuple[str, tuple[str, ...], float], ...] = (
    ("Best mIoU", ("activations", "best_miou"), 1),
    ("Mean mIoU", ("activations", "mean_miou"), 1),
    ("Plateau, %", ("activations", "plateau"), 100),
    ("Mean mIoU after {refinement}", ("activations", "refined_mean_miou"), 1),
)
_MASKS = {"pseudo_masks": "pseudo-masks", "segmentation": "network"}
Differences = Sequence[dict[str, str]]


Place = tuple[str, str, str]
Row = tuple[str, str]


def front_page(
    summary: dict[str, Any],
    differences: Differences,
    split: str | None,
    figures: Sequence[Path],
    survey: dict[str, Any] | None = None,
    judged: Sequence[str] = (),
) -> str:
    """Return the page.

    Args:
        summary: Contents of summary.json.
        differences: Rows of differences.csv.
        split: The split that the sweep's figures are about; None without ground truth.
        figures: Plots (SVG) to show, each named as in the catalogue.
        survey: Contents of dataset.json: how images, labels and masks agree.
        judged: What is predicted of the pseudo-masks, see `judged_part`.
    """
    result = verdict(summary, differences, split)
    images = ", ".join(f"{count} {name}" for name, count in summary["images"].items())
    trials = f"{summary['trials']} trial{'s' if summary['trials'] > 1 else ''}"
    where = f"Run {summary['run']} · dataset {summary['dataset']} · {images} images · {trials}"
    answer = {"supported": "yes", "partly supported": "partly"}.get(result.answer, "no")
    parts = [
        element("p", where, "soft"),
        element("h1", "Does this run support the claim?"),
        element("p", result.claim, "claim") if result.claim else "",
        element("span", result.answer, f"badge {answer}"),
        element("p", result.paragraph),
        *_comparisons(result, summary),
        element("h2", "Methods"),
        *_methods(summary, split),
        *_differences(differences),
        *judged,
        *_dataset(survey),
        *_plots(figures),
        element(
            "p",
            "The threshold explorer and the gallery show the images themselves: explorer.html and"
            " gallery.html beside this report, and items of the report.",
            "soft",
        ),
    ]
    return page(f"{summary['run']}: does it support the claim?", *parts)


def show(figure: dict[str, Any] | None, scale: float = 1) -> str:
    """Return a figure as `mean_std` does; "–" where there is none."""
    return mean_std(figure, scale) if figure else "–"


def _comparisons(result: Verdict, summary: dict[str, Any]) -> Iterator[str]:
    pair = compared_pair(list(summary["methods"]))
    if not result.findings or pair is None:
        return
    marks = {True: Markup('<b class="yes">✓</b>'), False: Markup('<b class="no">✗</b>')}
    yield table(
        ["Comparison", *map(method_name, pair), "Difference", "Holds"],
        ([f.what, f.before, f.after, f.relation, marks[f.holds]] for f in result.findings),
    )
    yield element(
        "p",
        "A comparison holds when the difference is in the claimed direction and larger than the"
        " standard deviation of either method over trials; for networks also beyond chance in the"
        " bootstrap over images.",
        "soft",
    )


def _methods(summary: dict[str, Any], split: str | None) -> Iterator[str]:
    """Every method of the run, a network for each threshold."""
    if split is None:
        yield element("p", "Nothing was measured: the dataset has no ground-truth masks.", "soft")
        return
    methods = summary["methods"]
    keys = list(dict.fromkeys(k for part in methods.values() for k in part.get("by_threshold", {})))
    rows = []
    for method, sections in methods.items():
        cells = [
            show(sections.get(section, {}).get(split, {}).get(name), scale)
            for _, (section, name), scale in _COLUMNS
        ]
        by_key = sections.get("by_threshold", {})
        for key in keys or [""]:
            # The reference learns from true masks, whatever the threshold of the others.
            part = by_key.get(key, {}) if by_key else sections
            cells.append(show(part.get("segmentation", {}).get("val", {}).get("miou")))
        rows.append([method_name(method), *cells, summary["trials"]])
    networks = [f"Network, masks at {key}" for key in keys] or ["Network"]
    yield table(
        [
            "Method",
            *(name.format(refinement=refinement_of(summary)) for name, _, _ in _COLUMNS),
            *networks,
            "Trials",
        ],
        rows,
    )
    yield element(
        "p",
        f"mIoU in percent, mean ± standard deviation over trials; activations on {split}, networks on"
        " val. A dash: not computed, or does not exist.",
        "soft",
    )


def _differences(differences: Differences) -> Iterator[str]:
    """Paired differences between methods, trials together."""
    if not differences:
        return
    rows = []
    networks_first = sorted(
        differences, key=lambda row: (row["section"] != "segmentation", _place(row))
    )
    for key, group in groupby(networks_first, _place):
        section, split, threshold, first, second = key
        trials = list(group)
        beyond = sum(row["significant"] == "True" for row in trials)
        mean = sum(float(row["difference"]) for row in trials) / len(trials)
        low, high = min(float(r["low"]) for r in trials), max(float(r["high"]) for r in trials)
        rows.append(
            [
                f"{_MASKS.get(section, section)} on {split}, {made_at(threshold)}",
                f"{method_name(second)} − {method_name(first)}",
                signed(mean),
                f"{signed(low)} … {signed(high)}",
                f"{beyond} of {len(trials)}",
                trials[0]["images"],
            ]
        )
    confidence = f"{100 * float(differences[0]['confidence']):g} % interval"
    yield element("h2", "Differences between methods on the same images")
    yield table(
        ["Masks", "Methods", "mIoU, points", confidence, "Trials beyond chance", "Images"], rows
    )
    yield element(
        "p",
        "Paired bootstrap over images, percentile interval; of several trials the lowest and the"
        " highest end. A trial is beyond chance when its interval excludes zero.",
        "soft",
    )


def _place(row: dict[str, str]) -> tuple[str, ...]:
    return row["section"], row["split"], row["threshold"], row["first"], row["second"]


def _dataset(survey: dict[str, Any] | None) -> Iterator[str]:
    """How many images, labels and masks there are, how far they agree, and what is left out."""
    if survey is None:
        return
    yield element("h2", "Images, labels and masks")
    columns = ["Split", *COUNTS.values()]
    yield table(
        columns,
        ([split, *(counts[name] for name in COUNTS)] for split, counts in survey["splits"].items()),
    )
    left_out = [f"left out: {number} {why}" for why, number in survey["left_out"].items()]
    if survey["warnings"] or left_out:
        yield bullets([*survey["warnings"], *left_out])


def _plots(figures: Sequence[Path]) -> Iterator[str]:
    """Plots with their captions, in the catalogue's order and under its headings."""
    by_name = {path.name: path for path in figures}
    shown = [item for item in FIGURES if item.file in by_name]
    for category, items in groupby(shown, lambda item: item.category):
        yield element("h2", category.lstrip("0123456789 "))
        for item in items:
            picture = data_uri("image/svg+xml", by_name[item.file].read_bytes())
            caption = " ".join(item.caption.read_text(encoding="utf-8").split())
            yield (
                f'<figure><div class="scroll" tabindex="0"><img src="{picture}" alt="{item.title}"/>'
                f"</div><figcaption>{element('b', item.title + '.')} {element('span', caption)}"
                "</figcaption></figure>"
            )


def summary_table(summary: dict[str, Any]) -> str:
    """Return the page: a table for each part of the workflow, split and threshold."""
    methods, refinement = list(summary["methods"]), refinement_of(summary)
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
                (
                    _cells(figure_name(section, *row, refinement), by_method, shown)
                    for row, by_method in figures.items()
                ),
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
    name: tuple[str, float, int], by_method: dict[str, dict[str, Any]], methods: Sequence[str]
) -> list[str]:
    words, factor, decimals = name
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
