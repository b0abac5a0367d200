"""What `judge` wrote, read back: quality beside the true one, and in which order to look at the images.

The report shows predicted and true quality side by side, so that everybody sees how far to trust it. The
order stands in images.csv; a part of it, such as the gallery saves, is read as the whole is.
"""

import csv
import json
import logging
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from statistics import mean
from typing import Any

from workflow_scripts.datasets.table import make_ids
from workflow_scripts.errors import InputError
from workflow_scripts.report.html import bullets, element, table
from workflow_scripts.report.names import made_at, method_name

logger = logging.getLogger(__name__)

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


@dataclass(frozen=True, slots=True)
class Look:
    """What is said of an image: its place in the order, the gain in points, how far sets differ (0…1)."""

    place: int
    gain: float | None
    difference: float | None


def read_looks(table: Path) -> dict[str, dict[str, Look]]:
    """Read images.csv: for each set, in the order of the file, its images by name or id.

    Raises:
        InputError: It is no such table; names the file.
    """
    found: dict[str, dict[str, Look]] = {}
    try:
        with table.open(newline="", encoding="utf-8-sig") as stream:
            for row in csv.DictReader(stream):
                gain, difference = (
                    float(row[name]) if row.get(name) else None for name in ("gain", "difference")
                )
                look = Look(int(row["look"]), gain, difference)
                found.setdefault(row["set"], {})[row["image"]] = look
        if not found:
            raise ValueError("no rows")
    except (OSError, UnicodeDecodeError, csv.Error, KeyError, TypeError, ValueError) as error:
        raise InputError(
            f"{table}: not the table of images that judge writes ({error!r}); give its images.csv, or a list "
            "that the gallery saved"
        ) from error
    return found


def in_order(table: Path, names: Mapping[str, Sequence[str]]) -> list[str]:
    """Names of images in the order in which to look at them, of several sets in that of the first.

    What the table lacks is left out, and told of: a list of some images is for these alone.

    Args:
        table: images.csv, or a part of it.
        names: Of each image what it may be called there.

    Raises:
        InputError: It is no such table, or none of the images is in it; names the file.
    """
    looks = next(iter(read_looks(table).values()))
    # `judge` by hand names images by their paths, a run by their ids; masks lie under either.
    known = {name: look.place for name, look in looks.items()}
    for name, image_id in zip(looks, make_ids(list(looks)), strict=True):
        for other in (PurePosixPath(name).with_suffix("").as_posix(), image_id):
            known.setdefault(other, looks[name].place)
    places = {
        name: next(known[key] for key in keys if key in known)
        for name, keys in names.items()
        if any(key in known for key in keys)
    }
    if not places:
        raise InputError(
            f"{table}: names none of the {len(names)} images, for instance {next(iter(names), '')!r}; run "
            "`judge` on the same images, or give the list that belongs to them"
        )
    if len(places) < len(names):
        logger.warning(
            "%s: %d of %d images are not in it, and left out",
            table,
            len(names) - len(places),
            len(names),
        )
    return sorted(places, key=places.__getitem__)
