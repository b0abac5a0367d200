"""Predicted quality of the pseudo-masks beside the true one, so that everybody sees how far to trust it."""

import json
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from statistics import mean
from typing import Any

from workflow_scripts.errors import InputError
from workflow_scripts.report.html import bullets, element, table
from workflow_scripts.report.names import made_at, method_name

# Where a set of pseudo-masks is of: trial, method and source, as the planner names sets for `judge`.
SEPARATOR = "/"


def read_judged(path: Path) -> dict[str, Any]:
    """Read what `judge` wrote; InputError when it is anything else."""
    try:
        judged: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        for row in judged["sets"]:
            trial, _, _ = row["set"].split(SEPARATOR)
            float(row["miou"]), float(row["miou_low"]), float(row["miou_high"]), int(trial)
        judged["fitted_on"] = list(map(str, judged["fitted_on"]))
        return judged
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(
            f"{path}: not what judge writes ({error!r}). Delete it, so that judge runs again."
        ) from error


def judged_part(judged: dict[str, Any], summary: dict[str, Any], split: str) -> Iterator[str]:
    """Yield the part of the front page: a row for each method and threshold, means over the trials.

    Args:
        judged: What `judge` found of sets called trial/method/source.
        summary: Contents of summary.json.
        split: The split whose pseudo-masks were judged.
    """
    rows = defaultdict(list)
    for row in judged["sets"]:
        _, method, source = row["set"].split(SEPARATOR)
        rows[method, source.removeprefix("t")].append(row)
    cells = []
    for (method, key), found in rows.items():
        predicted, low, high = (
            mean(float(row[name]) for row in found) for name in ("miou", "miou_low", "miou_high")
        )
        truth = _true_miou(summary, method, key, split)
        cells.append(
            [
                f"{method_name(method)}, {made_at(key)}",
                f"{predicted:.1f}",
                f"{low:.1f} … {high:.1f}",
                "–" if truth is None else f"{truth:.1f}",
            ]
        )
    yield element("h2", "Predicted without masks")
    yield table(["Pseudo-masks", "Predicted mIoU", "90 % interval", "True mIoU"], cells)
    yield element(
        "p",
        f"Pseudo-masks of {split}, means over trials. The prediction has seen images, labels and masks, and "
        "no true mask of them. Beside it what the true masks say, where there are any. How evidence becomes "
        "a prediction was fitted once, on:",
        "soft",
    )
    yield bullets(judged["fitted_on"])


def _true_miou(summary: dict[str, Any], method: str, key: str, split: str) -> float | None:
    sections = summary["methods"].get(method, {})
    part = sections.get("by_threshold", {}).get(key, sections)
    figure = part.get("pseudo_masks", {}).get(split, {}).get("miou")
    return None if figure is None else float(figure["mean"])
