"""Write the threshold explorer: one self-contained HTML page that works without a network.

Reads the index, the activations of one trial and, where the dataset has masks, the threshold sweeps and
curves of the run. With masks, images are those of best, median and worst gain of the second method over
the first (each at its best threshold); without, ids at equal distances, and whatever needs ground truth
is left out.
"""

import json
import logging
import sys
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from string import Template
from typing import Any

import numpy as np
from pydantic import Field

from workflow_scripts.console.run_files import RunFiles
from workflow_scripts.console.stage import run_stage
from workflow_scripts.datasets.index import ImageRecord, read_index
from workflow_scripts.errors import InputError
from workflow_scripts.evaluation.run_results import RunFolder, threshold_of
from workflow_scripts.evaluation.threshold_sweep import Sweeps, even_thresholds
from workflow_scripts.report.catalogue import EXPLORER_ASSETS, REFERENCE
from workflow_scripts.report.image_pages import (
    HEAT_STOPS,
    Choice,
    best_median_worst,
    curve_entry,
    evenly_spaced,
    explorer_image,
    gains,
    slider_positions,
)
from workflow_scripts.report.names import (
    colours_of,
    compared_pair,
    method_name,
    refinement_name,
    safe_colours,
    voc_colours,
)
from workflow_scripts.report.run_data import curves_of, read_table
from workflow_scripts.settings.evaluation import ExplorerSettings, SweepSettings
from workflow_scripts.storage.activations import ActivationReader
from workflow_scripts.storage.atomic import atomic_path

logger = logging.getLogger(__name__)

Chooser = tuple[Callable[[int], list[Choice]], str]


class Files(RunFiles):
    """Inputs and outputs."""

    index: Path = Field(description="index.csv of the dataset")
    curves: Path = Field(description="curves.csv of the run")
    trial: int = Field(0, ge=0, description="trial whose activations are shown")
    sources: tuple[str, ...] = Field((), description="sources of pseudo-masks, t0.50 …; marked")
    split: str = Field("val", description="split whose images are shown")
    output: Path = Field(description="page to write (HTML)")


def work(files: Files, settings: ExplorerSettings) -> None:
    """Write the page."""
    index = read_index(files.index)
    records = {record.id: record for record in index.of_split(files.split)}
    folder = files.folder
    methods = [method for method in files.methods if method != REFERENCE]
    sweeps = _sweeps(folder, files, methods)
    first = next(iter(sweeps.values()), None)
    if first is not None:
        # Images without a mask were not swept: they have no truth to show.
        records = {i: records[i] for i in first.plain.images().ids}
    all_thresholds = first.plain.thresholds if first else even_thresholds(SweepSettings().step)
    positions = slider_positions(all_thresholds)
    thresholds = all_thresholds[positions]
    readers = {method: _readers(folder, files, method) for method in methods}

    @cache
    def entry(choice: Choice) -> dict[str, Any]:
        record = records[choice.id]
        size = (record.height, record.width)
        activations = {m: _find(readers[m], record).read_full(record.id, *size) for m in methods}
        return explorer_image(record, choice, activations, thresholds, bool(sweeps))

    data: dict[str, Any] = {
        "run": files.run.name,
        "split": files.split,
        "trial": files.trial,
        "classes": ["background", *index.classes],
        "colours": {
            "safe": safe_colours(len(index.classes)),
            "voc": voc_colours(len(index.classes)),
        },
        "heat": HEAT_STOPS,
        "thresholds": [round(float(threshold), 6) for threshold in thresholds],
        "used": _used(folder, files, methods),
        "truth": bool(sweeps),
        "refinement": refinement_name(
            first.refined.refinement if first and first.refined else "crf"
        ),
        "count": len(records),
        "methods": _methods(files, methods, positions, bool(sweeps)),
    }
    choose, rule = _chooser(list(records), methods, sweeps)
    number = min(settings.explorer_images, len(records))
    limit = settings.explorer_megabytes * 1e6
    while True:
        images = [entry(choice) for choice in choose(number)]
        page = render(data | {"rule": rule, "images": images})
        size = len(page.encode())
        if size <= limit or number == 1:
            break
        number = max(1, min(number - 1, int(number * limit / size)))
    if number < min(settings.explorer_images, len(records)):
        logger.warning("explorer: %d images fit into %.1f MB", number, limit / 1e6)
    with atomic_path(files.output) as temporary:
        temporary.write_text(page, encoding="utf-8")


def _sweeps(folder: RunFolder, files: Files, methods: Sequence[str]) -> dict[str, Sweeps]:
    found = {method: folder.sweeps(files.trial, method) for method in methods}
    return {
        method: sweeps[files.split]
        for method, sweeps in found.items()
        if files.split in sweeps and sweeps[files.split].plain.images().ids
    }


def _used(folder: RunFolder, files: Files, methods: Sequence[str]) -> list[dict[str, Any]]:
    """Return the thresholds that the run used, for all methods alike or chosen for one of them."""
    used: list[dict[str, Any]] = []
    for source in files.sources:
        threshold = threshold_of(source)
        if threshold is not None:
            used.append({"threshold": threshold, "name": "used by this run"})
            continue
        for method in methods:
            if (chosen := folder.threshold(files.trial, method, source)) is not None:
                name = f"{method_name(method)} {source}"
                used.append({"threshold": chosen, "name": name, "method": method})
    return used


def _readers(folder: RunFolder, files: Files, method: str) -> list[ActivationReader]:
    if files.split not in folder.shards:
        raise InputError(f"none of the shards belongs to split {files.split!r}; give its shards")
    activations = files.run / str(files.trial) / method / "activations"
    return [ActivationReader(activations / f"{s}.safetensors") for s in folder.shards[files.split]]


def _find(readers: Sequence[ActivationReader], record: ImageRecord) -> ActivationReader:
    """Return the shard that holds an image; the last one, which then names what is missing."""
    return next((reader for reader in readers if record.id in reader.ids), readers[-1])


def _methods(
    files: Files, methods: Sequence[str], positions: np.ndarray, with_truth: bool
) -> list[dict[str, Any]]:
    rows = read_table(files.curves) if with_truth else []
    plain = curves_of(rows, "miou", files.split)
    refined = curves_of(rows, "refined_miou", files.split)
    colours = colours_of(files.methods)
    return [
        {"key": method, "name": method_name(method), "colour": colours[method]}
        | (
            {"curve": curve_entry(plain[method], refined.get(method), positions)}
            if method in plain
            else {}
        )
        for method in methods
    ]


def _chooser(ids: Sequence[str], methods: Sequence[str], sweeps: dict[str, Sweeps]) -> Chooser:
    """Return the function that chooses a number of images, and the sentence that states its rule."""
    pair = compared_pair(methods)
    gain = {}
    if pair is not None and all(method in sweeps for method in pair):
        gain = gains(*(sweeps[method].plain for method in pair))
    if pair is None or not gain:
        rule = "Images at equal distances in the order of the index."
        return lambda number: [
            Choice(i, "evenly spaced", None) for i in evenly_spaced(ids, number)
        ], rule
    first, second = map(method_name, pair)
    rule = (
        f"Images of best, median and worst gain: IoU of {second} minus IoU of {first}, each at its"
        " best threshold for the whole split."
    )
    return lambda number: best_median_worst(gain, number), rule


def render(data: dict[str, Any]) -> str:
    """Return the page with its data, style and scripts in it."""
    html, style, *scripts = [path.read_text(encoding="utf-8") for path in EXPLORER_ASSETS]
    text = json.dumps(data, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return Template(html).substitute(
        style=style, script="\n".join(scripts), data=text.replace("<", "\\u003c")
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Run the stage; returns its exit code."""
    return run_stage("make_explorer", __doc__, Files, ExplorerSettings, work, argv)


if __name__ == "__main__":
    sys.exit(main())
