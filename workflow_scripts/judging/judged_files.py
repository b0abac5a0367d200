"""The files of `judge`: tables of sets, classes and images, and the order in which to look at the images.

`images.csv` says of each set and image at which place it is looked at (`look`), by how many points of mIoU
its correction is expected to raise the set's (`gain`), and how far the sets differ on it (`difference`). A
part of it, such as the gallery saves, is read as the whole is.
"""

import csv
import json
import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from workflow_scripts.datasets.table import make_ids
from workflow_scripts.errors import InputError
from workflow_scripts.judging.predicted_quality import Estimate, Judgement, better, published
from workflow_scripts.storage.atomic import atomic_path

logger = logging.getLogger(__name__)

JUDGED, TABLES = "judged.json", ("sets", "classes", "images")


@dataclass(frozen=True)
class Result:
    """What was found: sets in the order given."""

    names: tuple[str, ...]
    classes: tuple[str, ...]
    images: tuple[str, ...]
    judgements: tuple[Judgement, ...]
    differences: np.ndarray
    """float64 [images], 1 − mean agreement of the sets' regions; NaN of a single set."""

    @property
    def order(self) -> list[int]:
        """Sets by predicted mIoU, best first."""
        return sorted(range(len(self.names)), key=lambda i: -self.judgements[i].miou.value)


def tables(result: Result) -> dict[str, list[dict[str, Any]]]:
    """Rows of the three tables; IoU and gains in points."""
    names = ("background", *result.classes)
    sets, classes, images = [], [], []
    for place, which in enumerate(result.order):
        name, judgement = result.names[which], result.judgements[which]
        after = result.order[place + 1 : place + 2]
        sure = better(judgement, result.judgements[after[0]]) if after else None
        sets.append(
            {
                "set": name,
                **_points("miou", judgement.miou),
                "better_than_next": None if sure is None else round(sure, 4),
            }
        )
        classes += [
            {"set": name, "class": names[number], **_points("iou", estimate)}
            for number, estimate in judgement.class_iou.items()
        ]
        ranks = np.argsort(np.argsort(-judgement.gains, kind="stable"))
        images += [
            {
                "set": name,
                "image": image,
                "look": int(ranks[i]) + 1,
                "gain": round(100 * float(judgement.gains[i]), 4),
                "iou": round(100 * float(judgement.image_iou[i]), 2),
                "difference": _rounded(result.differences[i]),
            }
            for i, image in enumerate(result.images)
        ]
    return dict(zip(TABLES, (sets, classes, images), strict=True))


def _points(name: str, estimate: Estimate) -> dict[str, float]:
    return {
        name: round(100 * estimate.value, 2),
        f"{name}_low": round(100 * estimate.low, 2),
        f"{name}_high": round(100 * estimate.high, 2),
    }


def _rounded(value: float) -> float | None:
    return None if np.isnan(value) else round(float(value), 4)


def write(folder: Path, result: Result) -> None:
    """Write the tables, each whole or not at all; judged.json is there only beside its own tables."""
    found = tables(result)
    (folder / JUDGED).unlink(missing_ok=True)
    for name, rows in found.items():
        with (
            atomic_path(folder / f"{name}.csv") as temporary,
            temporary.open("w", newline="", encoding="utf-8") as stream,
        ):
            writer = csv.DictWriter(stream, list(rows[0]), lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows)
    content = {
        "fitted_on": list(published().fitted_on),
        "better": [
            {"set": result.names[i], "than": result.names[j], "probability": round(p, 4)}
            for i, j, p in _pairs(result)
        ],
        **found,
    }
    with atomic_path(folder / JUDGED) as temporary:
        text = json.dumps(content, ensure_ascii=False, indent=1)
        temporary.write_text(text + "\n", encoding="utf-8")


def _pairs(result: Result) -> Iterator[tuple[int, int, float]]:
    for place, i in enumerate(result.order):
        for j in result.order[place + 1 :]:
            yield i, j, better(result.judgements[i], result.judgements[j])


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
