"""Write the gallery: image, ground truth, and each method's activation, seeds, pseudo-mask, prediction.

Reads the index, and below the run's folder whatever one trial has for the images of the given splits;
what is missing is left out. Images are evenly spaced over the ranking by gain of the second method over
the first (in the order of the index where there is no ground truth). With the tables of `judge` a third of
the places goes to the images whose correction is expected to gain most, and the page saves lists of these
for `label` and `convert_masks`. Writes one self-contained HTML page.
"""

import json
import sys
from collections.abc import Sequence, Set
from dataclasses import asdict
from pathlib import Path
from string import Template
from typing import Any

from pydantic import Field

from workflow_scripts.console.progress import progress
from workflow_scripts.console.run_files import RunFiles
from workflow_scripts.console.stage import run_stage
from workflow_scripts.datasets.index import read_index
from workflow_scripts.datasets.table import make_ids
from workflow_scripts.errors import InputError
from workflow_scripts.evaluation.run_results import RunFolder
from workflow_scripts.report.catalogue import GALLERY_ASSETS
from workflow_scripts.report.image_pages import (
    HEAT_STOPS,
    MethodFiles,
    evenly_spaced,
    gains,
    gallery_image,
    image_iou,
    ranked,
)
from workflow_scripts.report.judged_table import Look, read_looks
from workflow_scripts.report.names import compared_pair, method_name, safe_colours
from workflow_scripts.settings.evaluation import GallerySettings
from workflow_scripts.storage.atomic import atomic_path


class Files(RunFiles):
    """Inputs and outputs."""

    index: Path = Field(description="index.csv of the dataset")
    trial: int = Field(0, ge=0, description="trial that is shown")
    source: str = Field(description="source of the pseudo-masks that are shown, such as t0.50")
    splits: tuple[str, ...] = Field(("val", "train"), description="splits whose images are shown")
    judged: Path | None = Field(
        None, description="images.csv of `judge`: which images to look at first"
    )
    output: Path = Field(description="page to write (HTML)")


# Share of a split's places that go to the images to look at first, where `judge` has said which.
LOOKED_AT = 1 / 3


def work(files: Files, settings: GallerySettings) -> None:
    """Write the page."""
    index = read_index(files.index)
    folder = files.folder
    splits = [split for split in files.splits if split in folder.splits]
    if not splits:
        raise InputError(f"no shard belongs to the splits {', '.join(files.splits)}; give some")
    colours = safe_colours(len(index.classes))
    judged_set, looks = _looks(files, {record.id for record in index.records})
    images: list[dict[str, Any]] = []
    total = 0
    for split in splits:
        records = {record.id: record for record in index.of_split(split)}
        figures = _figures(folder, files, split)
        order = [i for i in ranked(figures["gain"]) if i in records] or list(records)
        total += len(order)
        places = max(1, settings.gallery_images // len(splits))
        first = sorted(looks.keys() & records.keys(), key=lambda i: looks[i].place)
        first = first[: round(LOOKED_AT * places)]
        taken = set(first)
        rest = [image_id for image_id in order if image_id not in taken]
        chosen = first + evenly_spaced(rest, min(places - len(first), len(rest)))
        methods = [MethodFiles(folder, files.trial, m, files.source, split) for m in files.methods]
        for image_id in progress(chosen, description=f"make_gallery {split}"):
            side = settings.thumbnail
            entry = gallery_image(records[image_id], methods, index.classes, side, colours)
            of_image = {name: values.get(image_id) for name, values in figures.items()}
            gain = of_image.pop("gain")
            iou = {name: round(value, 1) for name, value in of_image.items() if value is not None}
            entry |= {"gain": None if gain is None else round(gain, 2), "iou": iou}
            look = looks.get(image_id)
            images.append(entry | {"look": None if look is None else asdict(look)})
    pair = compared_pair(files.methods)
    data = {
        "run": files.run.name,
        "classes": index.classes,
        "colours": colours[1:],
        "splits": splits,
        "page": settings.gallery_page,
        "pair": [method_name(method) for method in pair] if pair else [],
        "total": total,
        "judged": judged_set,
        "looks": [[i, one.place, one.gain] for i, one in looks.items()],
        "heat": HEAT_STOPS,
        "images": images,
    }
    with atomic_path(files.output) as temporary:
        temporary.write_text(render(data), encoding="utf-8")


def _looks(files: Files, ids: Set[str]) -> tuple[str | None, dict[str, Look]]:
    """The set of the shown trial and source that is predicted to be best, and its images by id, in order.

    Of `judge` by hand, whose sets have other names and images their paths, it is the first set of the table.
    """
    if files.judged is None:
        return None, {}
    sets = read_looks(files.judged)
    shown = [f"{files.trial}/{method}/{files.source}" for method in files.methods]
    # The table has the sets in the order of their predicted mIoU.
    name = next((name for name in sets if name in shown), next(iter(sets)))
    names = list(sets[name])
    called = dict(zip(names, make_ids(names), strict=True))
    looks = {one if one in ids else called[one]: look for one, look in sets[name].items()}
    return name, dict(sorted(looks.items(), key=lambda item: item[1].place))


def _figures(folder: RunFolder, files: Files, split: str) -> dict[str, dict[str, float]]:
    """Return the gain of each image, and its IoU by method, each at the split's best threshold."""
    found = {method: folder.sweeps(files.trial, method).get(split) for method in files.methods}
    sweeps = {method: sweeps.plain for method, sweeps in found.items() if sweeps}
    pair = compared_pair(list(sweeps))
    gain = gains(*(sweeps[method] for method in pair)) if pair else {}
    return {"gain": gain} | {method_name(m): image_iou(sweep) for m, sweep in sweeps.items()}


def render(data: dict[str, Any]) -> str:
    """Return the page with its data, style and script in it."""
    html, style, script = [path.read_text(encoding="utf-8") for path in GALLERY_ASSETS]
    text = json.dumps(data, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return Template(html).substitute(style=style, script=script, data=text.replace("<", "\\u003c"))


def main(argv: Sequence[str] | None = None) -> int:
    """Run the stage; returns its exit code."""
    return run_stage("make_gallery", __doc__, Files, GallerySettings, work, argv)


if __name__ == "__main__":
    sys.exit(main())
