"""A small finished run, written without any training: for tests of the report."""

import csv
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from workflow_scripts import summarise
from workflow_scripts.datasets.index import IndexRow, read_index, write_index
from workflow_scripts.evaluate_masks import evaluate_shard
from workflow_scripts.evaluation.threshold_sweep import (
    RefinedSweep,
    Sweeps,
    ThresholdSweep,
    even_thresholds,
    write_sweeps,
)
from workflow_scripts.evaluation.truth import read_truth
from workflow_scripts.refinement.thresholding import dataset_labels, local_labels
from workflow_scripts.storage.activations import ActivationReader, ActivationWriter
from workflow_scripts.storage.masks import IGNORE, MaskReader, MaskWriter, encode_mask

# The second has what formulas, wildcards, pages and narrow columns trip over, in two scripts.
CLASSES = ("cat", r"dog & <co>, 100% $x_1^2$ \alpha_b كلب صغير " + "with_a_very_long_name_" * 3)
METHODS = ("cam", "amn", "full")
SOURCES = ("t0.50", "t0.30")
SHARDS = ("train-00", "val-00")
TRIALS = (0, 1)
COARSE = (0.3, 0.5, 0.7)
LEVELS = {"cam": (0.06, 0.9), "amn": (0.75, 0.95)}


@dataclass(frozen=True)
class FinishedRun:
    """Where the run lies, and the flags that stages of the report take."""

    path: Path
    methods: tuple[str, ...] = METHODS

    @property
    def index(self) -> Path:
        return self.path / "dataset" / "index.csv"

    def flags(self, *names: str) -> list[str]:
        values = {
            "run": [self.path],
            "index": [self.index],
            "summary": [self.path / "summary.json"],
            "curves": [self.path / "curves.csv"],
            "differences": [self.path / "differences.csv"],
            "table": [self.path / "summary.csv"],
            "benchmarks": [self.path / "benchmarks"],
            "trials": TRIALS,
            "methods": self.methods,
            "sources": SOURCES,
            "shards": SHARDS,
            "histories": sorted(self.path.rglob("training.csv")),
        }
        return [str(w) for name in names for w in (f"--{name}", *values[name])]


def build_run(
    folder: Path, with_masks: bool = True, side: int = 48, images: int = 4, swapped: bool = False
) -> FinishedRun:
    """Write a run; `swapped` gives each method the activations of the other."""
    methods = METHODS if with_masks else METHODS[:2]
    run = FinishedRun(folder / "demo", methods)
    _write_dataset(run, with_masks, side, images)
    for trial in TRIALS:
        for method in methods:
            level = (
                LEVELS.get({"cam": "amn", "amn": "cam"}[method] if swapped else method)
                if method in LEVELS
                else None
            )
            _write_method(run, trial, method, level, with_masks)
    _write_benchmarks(run.path / "benchmarks")
    names = ("run", "index", "trials", "methods", "sources", "shards", "benchmarks", "summary")
    flags = [*run.flags(*names, "table", "curves", "differences"), "--dataset", "demo"]
    if not summarise.main([*flags, "--bootstrap-draws", "20"]) == 0:
        raise AssertionError("summarise failed")
    (run.path / "config.yaml").write_text("run: demo\nseed: 3\nthresholds: [0.5, 0.3]\n")
    return run


def truth_of(number: int, side: int) -> np.ndarray:
    """A disc of cat, a square of dog or neither by number; and a strip that does not count."""
    y, x = np.mgrid[:side, :side] / side
    mask = np.where((x - 0.35) ** 2 + (y - 0.4) ** 2 < 0.05 + 0.01 * (number % 5), 1, 0)
    if number % 4:
        mask[(x > 0.6) & (x < 0.9) & (y > 0.55) & (y < 0.85)] = 2
    if number % 4 == 3:
        mask[:] = 0
    mask[:, -2:] = IGNORE
    return mask.astype(np.uint8)


def _write_dataset(run: FinishedRun, with_masks: bool, side: int, images: int) -> None:
    folder = run.index.parent
    (folder / "images").mkdir(parents=True)
    (folder / "masks").mkdir()
    rows = []
    for split in ("train", "val"):
        for number in range(images):
            name, truth = f"{split}{number}", truth_of(number, side)
            noise = np.random.default_rng(number).integers(0, 60, (*truth.shape, 3))
            tint = np.array([[60, 90, 60], [190, 120, 40], [40, 90, 190]])[truth % 3]
            Image.fromarray((noise + tint).astype(np.uint8)).save(folder / "images" / f"{name}.png")
            (folder / "masks" / f"{name}.png").write_bytes(encode_mask(truth))
            labels = [CLASSES[i - 1] for i in (1, 2) if (truth == i).any()]
            mask = f"masks/{name}.png" if with_masks else ""
            rows.append(IndexRow(name, f"images/{name}.png", side, side, split, labels, mask))
    write_index(run.index, CLASSES, rows)


def _activation(
    truth: np.ndarray, labels: tuple[int, ...], level: tuple[float, float], seed: int
) -> np.ndarray:
    """High on part of an object, `level` on its rest; some noise everywhere."""
    random = np.random.default_rng(seed)
    small = truth[::4, ::4]
    channels = []
    for label in labels:
        here = small == label
        columns = np.arange(small.shape[1])[None, :]
        middle = np.median(np.nonzero(here)[1]) if here.any() else 0
        channel = np.where(here, np.where(columns <= middle, level[1], level[0]), 0.02)
        channels.append(np.clip(channel + random.normal(0, 0.05, small.shape), 0, 1))
    return np.array(channels, np.float32).reshape(len(labels), *small.shape)


def _write_method(
    run: FinishedRun,
    trial: int,
    method: str,
    level: tuple[float, float] | None,
    with_masks: bool,
) -> None:
    folder, index = run.path / str(trial) / method, read_index(run.index)
    if level is None:
        _write_masks(run, folder / "truth", 0.9, trial, folder.parent / "amn", with_masks)
        return
    _write_training(folder, 4)
    for shard in SHARDS:
        records = index.shard(shard.split("-")[0], 0, 1)
        path = folder / "activations" / f"{shard}.safetensors"
        truths = {r.id: truth_of(int(r.id[-1]), r.height) for r in records}
        with ActivationWriter(path, records) as writer:
            for i, record in enumerate(records):
                labels = record.labels
                writer.write(record.id, _activation(truths[record.id], labels, level, i + trial))
        plain, refined = ThresholdSweep(2, even_thresholds(0.01)), RefinedSweep(2, COARSE)
        counts = dict.fromkeys(("background", "foreground", "ignored"), 0)
        with (
            ActivationReader(path) as reader,
            MaskWriter(folder / "seeds" / f"{shard}.zip") as seeds,
        ):
            for record in records:
                full = reader.read_full(record.id, record.height, record.width)
                seed = dataset_labels(local_labels(full, 0.3), record.labels)
                seed[(seed == 0) & (full.max(axis=0, initial=0) > 0.05)] = IGNORE
                seeds.write(record.id, seed)
                counts["background"] += int((seed == 0).sum())
                counts["ignored"] += int((seed == IGNORE).sum())
                counts["foreground"] += int(((seed > 0) & (seed < IGNORE)).sum())
                if with_masks:
                    truth = read_truth(record)
                    plain.update(record.id, full, record.labels, truth)
                    masks = [dataset_labels(local_labels(full, t), record.labels) for t in COARSE]
                    refined.update(truth, np.stack(masks))
        (folder / "seeds" / f"{shard}.json").write_text(json.dumps(counts))
        if with_masks:
            write_sweeps(folder / "sweep" / f"{shard}.safetensors", Sweeps(plain, refined))
    for source in SOURCES:
        _write_masks(run, folder / source, float(source[1:]), trial, folder, with_masks)


def _write_masks(
    run: FinishedRun, folder: Path, threshold: float, trial: int, method: Path, with_masks: bool
) -> None:
    """Pseudo-masks and predictions: thresholded activations, on the training and validation images."""
    index = read_index(run.index)
    kinds = {"segmentation/predictions": ("segmentation", "val-00")}
    if folder.name != "truth":
        kinds["pseudo_masks"] = ("pseudo_masks", "train-00")
    _write_training(folder / "segmentation", 3)
    for place, (kind, shard) in kinds.items():
        records = index.shard(shard.split("-")[0], 0, 1)
        path = folder / place / f"{shard}.zip"
        with (
            ActivationReader(method / "activations" / f"{shard}.safetensors") as reader,
            MaskWriter(path) as writer,
        ):
            for record in records:
                full = reader.read_full(record.id, record.height, record.width)
                writer.write(
                    record.id, dataset_labels(local_labels(full, threshold), record.labels)
                )
        if with_masks:
            output = folder / "evaluation" / kind / f"{shard}.json"
            with MaskReader(path) as masks:
                evaluate_shard(records, masks, CLASSES, output)


def _write_training(folder: Path, epochs: int) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "training.csv").open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(["epoch", "steps", "loss", "learning_rate", "images_per_second", "waiting"])
        writer.writerows([e, 10 * e, 1 / e, 0.1, 20.0, 0.0] for e in range(1, epochs + 1))


def _write_benchmarks(folder: Path) -> None:
    for stage, seconds, peak in (("train_cam", 61.5, "812.4"), ("infer_cam", 0.3, "-")):
        path = folder / stage / "0.tsv"
        path.parent.mkdir(parents=True)
        path.write_text(f"s\th:m:s\tmax_rss\n{seconds}\t0:00:01\t{peak}\n")
