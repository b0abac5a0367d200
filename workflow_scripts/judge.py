"""Predict how good sets of masks are, without any true mask: mIoU and IoU of each class with 90 % intervals.

    python -m workflow_scripts.judge --masks A B C --images photos --labels labels.csv --out judged

Each of the folders holds one mask an image (images without loss, or shards of this workflow), named as the
images are: 0 background, i the i-th class, 255 ignored. The images and their labels are a folder and a table
(CSV: image, labels), or those of a split of a dataset that was prepared (`--index`, `--split`).

Evidence is read off images, labels and masks alone: colours and edges, agreement with a dense CRF and with
the labels, smoothness and size of regions. What it is worth was found once, on the data named below. Prints
the ranking, with the probability that a set is better than the next; with `--out` writes `sets.csv`,
`classes.csv`, `images.csv` (what is predicted of each image, by how much its correction would raise the
mIoU, in which order to look at the images, and how far the sets differ on it) and all of it as `judged.json`.
"""

import csv
import json
import logging
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import Field

from workflow_scripts.console.progress import progress
from workflow_scripts.console.stage import NoSettings, StageFiles, run_stage
from workflow_scripts.datasets.files import images_below
from workflow_scripts.datasets.images import check_mask, read_image
from workflow_scripts.datasets.index import read_classes, read_index
from workflow_scripts.datasets.parallel import in_threads
from workflow_scripts.datasets.table import choose_classes, find_images, make_ids, read_table
from workflow_scripts.errors import InputError
from workflow_scripts.evaluation.truth import Masks, masks_below
from workflow_scripts.judging.mask_evidence import RegionEvidence, evidence
from workflow_scripts.judging.predicted_quality import (
    Estimate,
    Judgement,
    SetOfMasks,
    better,
    judge,
    published,
)
from workflow_scripts.storage.atomic import atomic_path
from workflow_scripts.storage.masks import MaskReader

logger = logging.getLogger(__name__)

SHOWN = 5
JUDGED, TABLES = "judged.json", ("sets", "classes", "images")
# Shards that are open at a time: a system allows a process 1024 files, some as few as 256.
MOST_OPEN = 64


class Files(StageFiles):
    """Inputs and outputs."""

    masks: tuple[Path, ...] = Field(min_length=1, description="folders of masks, one for each set")
    names: tuple[str, ...] = Field(
        (), description="what the sets are called; their folders if left out"
    )
    images: Path | None = Field(None, description="folder of the images")
    labels: Path | None = Field(None, description="table of their labels (CSV: image, labels)")
    classes: Path | None = Field(
        None,
        description="classes.csv with the names of the classes in their order; else all labels of the table, "
        "sorted",
    )
    index: Path | None = Field(
        None, description="instead of images, labels and classes: index.csv of a prepared dataset"
    )
    split: str | None = Field(None, description="split of that index; all images if left out")
    shards: tuple[str, ...] = Field(
        (),
        description="names of the shards to read in each folder of masks, train-00 train-01 …; all that is "
        "there if left out",
    )
    out: Path | None = Field(None, description="folder to write the tables to")

    @property
    def owned(self) -> Path | None:
        """The output that only one job may write at a time, and the last that is written."""
        return None if self.out is None else self.out / JUDGED

    @property
    def beside(self) -> tuple[Path, ...]:
        """The tables."""
        return () if self.out is None else tuple(self.out / f"{name}.csv" for name in TABLES)


Opener = Callable[[Path], MaskReader]


@dataclass(frozen=True)
class JudgedImage:
    """An image with its labels (class numbers), and the names that its masks may have."""

    name: str
    path: Path
    labels: tuple[int, ...]
    keys: tuple[str, ...]


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


def read_images(files: Files) -> tuple[tuple[str, ...], list[JudgedImage]]:
    """Return the classes, and the images with their labels.

    Raises:
        InputError: Images and labels are given neither by a folder and a table nor by an index, or both.
    """
    if files.index is not None:
        if files.images or files.labels or files.classes:
            raise InputError("give either --index, or --images and --labels, not both")
        index = read_index(files.index)
        records = index.of_split(files.split) if files.split else index.records
        return index.classes, [
            JudgedImage(record.id, record.path, record.labels, (record.id,)) for record in records
        ]
    if files.images is None or files.labels is None:
        raise InputError(
            "give --images, a folder, and --labels, its table; or --index, an index.csv"
        )
    folder = images_below(files.images)
    known = read_classes(files.classes) if files.classes is not None else ()
    rows = read_table(files.labels, known)
    names = find_images(files.labels, rows, folder)
    classes = choose_classes(files.labels, rows, known)
    if files.classes is None:
        numbered = ", ".join(f"{place} {name}" for place, name in enumerate(classes, start=1))
        logger.info("numbers in masks, by the table's labels: %s; others need --classes", numbered)
    number = {name: place for place, name in enumerate(classes, start=1)}
    return classes, [
        JudgedImage(
            name,
            folder.files[name],
            tuple(sorted({number[label] for label in row.labels})),
            (image_id, name.rpartition(".")[0]),
        )
        for name, image_id, row in zip(names, make_ids(names), rows, strict=True)
    ]


def named_sets(files: Files) -> tuple[str, ...]:
    """What the sets are called: as given, else their folders, by as much of the path as tells them apart."""
    if files.names:
        if len(files.names) != len(files.masks):
            raise InputError(
                f"--names: {len(files.names)} names for {len(files.masks)} folders of masks; give one each"
            )
        names = files.names
    else:
        parts = [path.absolute().parts for path in files.masks]
        depth = next(
            (
                depth
                for depth in range(1, max(map(len, parts)) + 1)
                if len({part[-depth:] for part in parts}) == len(parts)
            ),
            1,
        )
        names = tuple("/".join(part[-depth:]) for part in parts)
    if len(set(names)) < len(names):
        raise InputError("--masks: two sets are the same folder, or have one name; give each once")
    return names


def _reader(masks: Masks, folder: Path, image: JudgedImage) -> np.ndarray:
    for key in image.keys:
        if key in masks:
            return masks[key]()
    inner = folder / "SegmentationClass"
    raise InputError(
        f"{folder}: no mask of image {image.path}; expected {' or '.join(dict.fromkeys(image.keys))}.png. "
        + (
            f"`label` and VOC keep theirs in a folder below: give {inner}"
            if inner.is_dir()
            else "Every image of the table needs one; make it, or take the image out of the table"
        )
    )


def masks_of_shards(folder: Path, shards: Sequence[str], opened: Opener) -> Masks:
    """Return a function that reads each mask of some shards in a folder, whatever else lies there.

    Args:
        folder: Where they lie, `{shard}.zip`.
        shards: Their names.
        opened: Opens a shard.

    Raises:
        InputError: A shard is missing or damaged, or an image is in two of them.
    """
    masks: Masks = {}
    for path in (folder / f"{shard}.zip" for shard in shards):
        for image_id in opened(path).ids:
            if image_id in masks:
                raise InputError(
                    f"{path}: holds a mask of image {image_id}, as another of --shards does; name the shards "
                    "of one number of parts"
                )
            masks[image_id] = partial(_read_mask, opened, path, image_id)
    return masks


def _read_mask(opened: Opener, path: Path, image_id: str) -> np.ndarray:
    return opened(path).read(image_id)


def gathered(
    files: Files, classes: Sequence[str], images: Sequence[JudgedImage]
) -> tuple[list[SetOfMasks], np.ndarray]:
    """Gather the evidence on all sets, and how far they differ on each image.

    Raises:
        InputError: A mask is missing, of another size than its image, or holds an unknown value.
    """
    # A shard that is let go of is closed by the last thread that reads from it.
    opened = lru_cache(MOST_OPEN)(MaskReader)
    folders = [
        masks_of_shards(folder, files.shards, opened) if files.shards else masks_below(folder)
        for folder in files.masks
    ]
    for folder, masks in zip(files.masks, folders, strict=True):
        for image in images:
            if not any(key in masks for key in image.keys):
                _reader(masks, folder, image)
        extra = len(masks) - len(images)
        if extra > 0:
            logger.warning("%s: %d masks belong to no image of the table", folder, extra)

    def of_image(image: JudgedImage) -> list[list[RegionEvidence]]:
        pixels = read_image(image.path)
        own = []
        for folder, masks in zip(files.masks, folders, strict=True):
            mask = _reader(masks, folder, image)
            size = (pixels.shape[1], pixels.shape[0])
            check_mask(mask, size, len(classes), folder / image.keys[0], image.path)
            own.append(mask)
        return evidence(pixels, own, image.labels)

    sets = [SetOfMasks() for _ in folders]
    differences = np.full(len(images), np.nan)
    found = progress(
        in_threads(of_image, images, files.threads), total=len(images), description="judge"
    )
    for position, of_sets in enumerate(found):
        agreements = []
        for kept, regions in zip(sets, of_sets, strict=True):
            kept.add(position, regions)
            agreements += [region.agreement for region in regions]
        if len(sets) > 1:
            differences[position] = 1 - np.mean(agreements)
    return sets, differences


def judged(files: Files) -> Result:
    """Judge all sets."""
    names = named_sets(files)
    classes, images = read_images(files)
    sets, differences = gathered(files, classes, images)
    judgements = []
    for name, kept in zip(names, sets, strict=True):
        regions = kept.table()
        if not regions.shows_a_class:
            logger.warning(
                "set %s: no mask has a pixel of a class that its image's labels name; check the numbers of "
                "the classes and the table of labels", name,
            )  # fmt: skip
        judgements.append(judge(regions, len(classes), len(images)))
    return Result(
        names, classes, tuple(image.name for image in images), tuple(judgements), differences
    )


def _interval(estimate: Estimate) -> str:
    low, high = 100 * estimate.low, 100 * estimate.high
    return f"{100 * estimate.value:5.1f} ({low:.0f}–{high:.0f})"


def shown(result: Result) -> str:
    """The ranking as lines of text, the classes of the best set, and the images to look at first."""
    width = max(map(len, (*result.names, "set"))) + 2
    lines = [f"{'set':{width}}{'predicted mIoU (90 %)':24}better than the next"]
    for place, which in enumerate(result.order):
        judgement = result.judgements[which]
        after = result.order[place + 1 : place + 2]
        sure = [
            f"{result.names[which]} better than {result.names[other]}: "
            f"{100 * better(judgement, result.judgements[other]):.0f} %"
            for other in after
        ]
        lines.append(f"{result.names[which]:{width}}{_interval(judgement.miou):24}{''.join(sure)}")
    best = result.order[0]
    judgement = result.judgements[best]
    lines += ["", f"classes of {result.names[best]}:"]
    names = ("background", *result.classes)
    for number, estimate in judgement.class_iou.items():
        lines.append(f"  {names[number]:24}{_interval(estimate)}")
    first = np.argsort(-judgement.gains, kind="stable")[:SHOWN]
    listed = ", ".join(f"{result.images[i]} (+{100 * judgement.gains[i]:.2f})" for i in first)
    lines += ["", f"look first at (points of mIoU that a correction gains): {listed}"]
    if len(result.names) > 1:
        apart = np.argsort(-result.differences, kind="stable")[:SHOWN]
        lines.append(f"the sets differ most on: {', '.join(result.images[i] for i in apart)}")
    return "\n".join(lines)


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


def work(files: Files, settings: NoSettings) -> None:
    """Judge the sets, print the ranking and write the tables if asked."""
    result = judged(files)
    print(shown(result))
    if files.out is not None:
        write(files.out, result)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit code."""
    data = f"Fitted on: {'; '.join(published().fitted_on)}."
    return run_stage("judge", f"{__doc__}\n{data}", Files, NoSettings, work, argv)


if __name__ == "__main__":
    sys.exit(main())
