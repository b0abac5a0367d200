"""What each method reaches on one's own photographs that have masks: a markdown table.

`make photographs ROOT=/path/to/VOC2012` or, with more to say,

    python -m tools.photographs --kind voc12 --root /path/to/VOC2012 --trials 3

writes a configuration, runs the workflow as far as the activations are measured, and prints a table: best
threshold and the one that `auto` chooses without a mask, mean over all thresholds, and plateau, for every
split, with what was done. With `--refined crf par`, each has rows for its masks after a dense CRF and
after PAR; with `--segmentation`, a segmentation network is trained on each method's masks too. Nothing is run
again that is there.
"""

import argparse
import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import numpy as np
import yaml

from tools.documentation import ROOT
from workflow_scripts.datasets.index import read_index
from workflow_scripts.doors.method import METHODS as METHOD_DOOR
from workflow_scripts.doors.method import Reads
from workflow_scripts.errors import InputError
from workflow_scripts.evaluation.confusion import Evaluation
from workflow_scripts.evaluation.run_results import RunFolder
from workflow_scripts.evaluation.threshold_sweep import PLATEAU, ThresholdCurve, even_thresholds
from workflow_scripts.planning.configuration import FULL
from workflow_scripts.planning.workflow import Workflow
from workflow_scripts.report.names import method_name, refinement_name
from workflow_scripts.settings.base import merge
from workflow_scripts.settings.refinement import AUTO
from workflow_scripts.storage.atomic import atomic_path

METHODS = ("cam", "vit_cam", "amn", "amn_on_vit_cam")
# Methods that go on from a network whose backbone learns.
LEARNING = ("recam",)
REFINEMENTS = ("crf", "par")
# Distance of the thresholds at which masks are refined; they lie in the middle of equal parts, as all do.
REFINED_STEP = 0.1
COLUMNS = (
    ("best threshold", "best", 1, ""),
    ("`auto` threshold", "auto", 1, ""),
    ("chosen", "threshold", 2, ""),
    ("mean over thresholds", "mean", 1, ""),
    ("plateau", "plateau", 1, " %"),
    ("segmentation network", "network", 1, ""),
)
# Of each row of the table, its figures in every trial.
Rows = dict[str, list[dict[str, float]]]


def optimiser(rate: float, factor: float = 1.0) -> dict[str, Any]:
    """AdamW on one cycle."""
    return {
        "name": "adamw", "learning_rate": rate, "head_factor": factor, "weight_decay": 1e-2,
        "schedule": "one_cycle",
    }  # fmt: skip


def whole_cells(side: int, backbone: str) -> int:
    """The side, cut to whole patches of a transformer, else to a multiple of any stride."""
    patch = re.search(r"patch(\d+)", backbone)
    cell = int(patch[1]) if patch else 32
    return max(cell, side - side % cell)


def sizes(crop: int) -> dict[str, Any]:
    """Random sizes and colours of photographs of about 500 pixels."""
    return {"resize": "long_side", "resize_range": [320, 640], "crop": crop, "colour": 0.2}


def frozen(side: int) -> dict[str, Any]:
    """Linear classifiers and an AMN of one convolution, on features that are computed once."""
    features = {"cache": True, "side": side}
    linear = {"epochs": 40, "optimiser": optimiser(3e-3), "features": features}
    return {
        "train_cam": {"training": linear},
        "train_vit_cam": {"training": linear},
        "train_amn": {
            "dilations": [1],
            "label_smoothing": 0.1,
            "training": {"epochs": 20, "optimiser": optimiser(1e-3), "features": features},
        },
        "infer_cam": {"scales": [1.0]},
        "infer_vit_cam": {"scales": [1.0]},
        "infer_amn": {"scales": [1.0]},
    }


def learning(side: int) -> dict[str, Any]:
    """Networks whose backbone learns, as config/folder.yaml has them."""

    def training(factor: float, epochs: int = 10) -> dict[str, Any]:
        return {"epochs": epochs, "optimiser": optimiser(3e-4, factor), "augmentation": sizes(side)}

    return {
        "train_cam": {"training": training(10)},
        "train_vit_cam": {"training": training(10)},
        "train_recam": {"training": {**training(10, 4), "optimiser": optimiser(5e-5, 10)}},
        "train_amn": {"dilations": [1, 3, 6, 9], "label_smoothing": 0.1, "training": training(3.3)},
        "infer_cam": {"scales": [1.0, 0.75, 1.5]},
        "infer_recam": {"scales": [1.0, 0.75, 1.5]},
        "infer_vit_cam": {"scales": [1.0, 0.75]},
        "infer_amn": {"scales": [1.0, 0.75, 1.5]},
    }


def configuration(given: argparse.Namespace) -> dict[str, Any]:
    """The configuration of the run.

    Raises:
        InputError: What was asked for does not go together.
    """
    asked = sorted(set(given.methods) & set(LEARNING))
    if asked and not given.learning:
        raise InputError(f"--methods: `{asked[0]}` goes on training a backbone; add --learning")
    backbone: dict[str, Any] = {"name": given.backbone, "weights": given.weights}
    side = whole_cells(given.side, given.backbone)
    grid = [round(float(one), 6) for one in even_thresholds(REFINED_STEP)]
    dataset: dict[str, Any] = {"kind": given.kind, "root": given.root}
    if given.kind == "voc12":
        dataset["augmented"] = False
    with_full = [FULL] if given.segmentation else []
    values: dict[str, Any] = {
        "run": given.run,
        "results": given.results,
        "dataset": dataset,
        "splits": {"training": ["train"], "activations": given.splits, "segmentation": ["val"]},
        "methods": [*given.methods, *with_full],
        "variants": {"amn_on_vit_cam": {"method": "amn", "seeds_from": "vit_cam"}},
        "trials": given.trials,
        "thresholds": [AUTO],
        "threads": dict.fromkeys(
            # Variants have the threads of what they are variants of.
            (*(name for name in given.methods if name in METHOD_DOOR.names()), "amn", "inference",
             "refinement", "segmentation"), 1
        ),
        "refine_seeds": {
            name: {
                "foreground_threshold": AUTO,
                "background_threshold": AUTO,
                "refinement": given.seeds,
            }
            for name in ("cam", "vit_cam", "amn")
        },
        "pseudo_masks": {"refinement": "none"},
        "sweep": {"refined_thresholds": grid if given.refined else []},
        "train_segmentation": {
            "segmenter": "mlp",
            "backbone": backbone,
            "training": {
                "epochs": 30,
                "optimiser": optimiser(1e-4, 10),
                "augmentation": sizes(whole_cells(384, given.backbone)),
            },
        },
    }  # fmt: skip
    values = merge(values, learning(side) if given.learning else frozen(side))
    for name in ("cam", "vit_cam", "amn"):
        values[f"train_{name}"]["backbone"] = backbone
    for file in given.configfile:
        values = merge(values, yaml.safe_load(Path(file).read_text(encoding="utf-8")) or {})
    return values


def targets(plan: Workflow, segmentation: bool, refinements: Sequence[str] = ()) -> list[str]:
    """Files from which the table is made."""
    files = plan.of_methods(AUTO, "thresholds.json")
    # A refined sweep has what the plain one has.
    folders = [f"refined_sweep/{one}" for one in refinements] or ["sweep"]
    for shard in plan.activation_shards:
        for folder in folders:
            files += plan.of_methods(folder, f"{shard}.safetensors")
    if segmentation:
        for folder in plan.segmentations:
            parent = folder.removesuffix("/segmentation")
            files += [
                f"{parent}/evaluation/segmentation/{one}.json" for one in plan.segmentation_shards
            ]
    return files


def curve_figures(curve: ThresholdCurve, step: float, auto: float) -> dict[str, float]:
    """What a curve says: in percent, but for the threshold that was chosen.

    Args:
        curve: mIoU at some thresholds.
        step: Distance of the thresholds that mean and plateau are over: between those of the curve mIoU is
            interpolated, beyond them it stays.
        auto: The threshold that was chosen.
    """
    miou = np.interp(even_thresholds(step), curve.thresholds, curve.miou)
    best = float(curve.miou.max())
    return {
        "best": 100 * best,
        "auto": 100 * curve.miou_at(auto),
        "threshold": auto,
        "mean": 100 * float(miou.mean()),
        "plateau": 100 * float((miou >= PLATEAU * best).mean()),
    }


def figures(plan: Workflow, split: str, refinements: Sequence[str] = ()) -> Rows:
    """What each method reached on a split, and after each refinement."""
    folder = RunFolder.of(
        Path(plan.folder), plan.activation_shards, segmentation_shards=plan.segmentation_shards
    )
    step = plan.settings.sweep.step
    found: Rows = {}
    for method in plan.methods:
        for trial in plan.trials:
            auto = folder.threshold(trial, method, AUTO)
            assert auto is not None
            refined = {one: folder.refined_sweeps(trial, method, one)[split] for one in refinements}
            plain = [*refined.values(), *([] if refined else [folder.sweeps(trial, method)[split]])]
            curves = {row_name(method): plain[0].plain.curve()}
            for one, sweeps in refined.items():
                assert sweeps.refined is not None
                curves[row_name(method, one)] = sweeps.refined.curve()
            for row, curve in curves.items():
                found.setdefault(row, []).append(curve_figures(curve, step, auto))
    for method in plan.settings.methods:
        source = "truth" if method == FULL else AUTO
        for trial in plan.trials:
            masks: dict[str, Evaluation] = folder.masks(trial, method, source, "segmentation")
            if split in masks:
                rows = found.setdefault(row_name(method), [{} for _ in plan.trials])
                rows[trial]["network"] = 100 * masks[split].total.mean_iou("wrong")
    return found


def row_name(method: str, refinement: str | None = None) -> str:
    """A row's title."""
    name = method_name(method) + (" (CAM + affinity)" if method == "vit_cam" else "")
    return f"{name} + {refinement_name(refinement)}" if refinement else name


def shown(values: Sequence[float], digits: int, unit: str) -> str:
    """Mean, and standard deviation over several trials."""
    spread = f" ± {stdev(values):.{digits}f}" if len(values) > 1 else ""
    return f"{mean(values):.{digits}f}{spread}{unit}"


def table(found: Rows) -> str:
    """A row for each method and refinement; columns that nothing is known for are left out."""
    known = {figure for trials in found.values() for one in trials for figure in one}
    columns = [column for column in COLUMNS if column[1] in known]
    lines = [
        f"| method | {' | '.join(title for title, *_ in columns)} |",
        "| --- |" + " ---: |" * len(columns),
    ]
    for row, trials in found.items():
        cells = [
            shown([one[figure] for one in trials], digits, unit)
            if all(figure in one for one in trials)
            else ""
            for _, figure, digits, unit in columns
        ]
        lines.append(f"| {row} | {' | '.join(cells)} |")
    return "\n".join(lines)


def commit() -> str:
    """The checkout's commit, and whether anything differs from it."""
    asked = ["git", "-C", str(ROOT), "describe", "--always", "--dirty", "--exclude", "*"]
    done = subprocess.run(asked, capture_output=True, text=True, check=False)
    return done.stdout.strip() or "unknown"


def report(plan: Workflow, given: argparse.Namespace) -> str:
    """The protocol, and a table for each split."""
    index = read_index(plan.index)
    counts = {split: len(index.of_split(split)) for split in plan.settings.splits.activations}
    images = ", ".join(f"{count} {split}" for split, count in counts.items())
    side = whole_cells(given.side, given.backbone)
    kind = f"frozen, features stored once of {side}×{side} pixels and their mirror images"
    if given.learning:
        kind = "its backbone learns"
    seeds = ""
    if any(plan.settings.entry(name).reads is Reads.SEEDS for name in plan.methods):
        seeds = f"seeds refined by {given.seeds}; "
    parts = [
        f"{given.kind}: {images} images, {len(index.classes)} classes; {given.backbone} ({given.weights}), "
        f"{kind}; {seeds}"
        f"{plan.settings.trials} trial(s); mIoU in percent, mean ± standard deviation; commit {commit()}."
    ]
    if given.refined:
        parts.append(
            f"Masks are refined at {round(1 / REFINED_STEP)} thresholds, {REFINED_STEP / 2}, "
            f"{1.5 * REFINED_STEP:.2f} …, and at the one that `auto` chose for the activations as they are; "
            "their means and plateaus are interpolated between these."
        )
    for split in counts:
        parts.append(f"Split {split}:\n\n{table(figures(plan, split, given.refined))}")
    return "\n\n".join(parts)


def parser() -> argparse.ArgumentParser:
    """What can be said."""
    made = argparse.ArgumentParser(
        prog="python -m tools.photographs",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    made.add_argument("--kind", default="voc12", help="voc12, coco14 or folder")
    made.add_argument("--root", required=True, help="folder of the dataset; it is only read")
    made.add_argument("--run", default="photographs", help="name of the run")
    made.add_argument("--results", default="results", help="folder of results")
    made.add_argument(
        "--methods", nargs="+", default=list(METHODS), help=f"of {METHODS + LEARNING}"
    )
    made.add_argument(
        "--splits",
        nargs="+",
        default=["train", "val"],
        help="splits whose activations are measured",
    )
    made.add_argument("--backbone", default="efficientnet_lite0", help="name of a backbone")
    made.add_argument("--weights", default="imagenet", help="its file of weights")
    made.add_argument(
        "--side", type=int, default=448, help="side of the square view, or of the crop"
    )
    made.add_argument(
        "--learning", action="store_true", help="train the backbone too (much slower)"
    )
    made.add_argument(
        "--segmentation", action="store_true", help="train segmentation networks, and `full`"
    )
    made.add_argument(
        "--refined",
        nargs="+",
        choices=REFINEMENTS,
        default=[],
        help="also after a dense CRF, after pixel-adaptive refinement",
    )
    made.add_argument(
        "--seeds",
        choices=[*REFINEMENTS, "none"],
        default="crf",
        help="what refines the seeds that amn learns from",
    )
    made.add_argument("--trials", type=int, default=3, help="repetitions with other random seeds")
    made.add_argument("--cores", default="1", help="processor cores, or all")
    made.add_argument("--configfile", nargs="*", default=[], help="laid over the configuration")
    made.add_argument("--output", type=Path, help="file that receives the table too")
    return made


def main(argv: Sequence[str] | None = None) -> int:
    """Run what is missing, and print the table; returns the exit code."""
    given = parser().parse_args(argv)
    try:
        values = configuration(given)
        plan = Workflow(values)
        file = Path(plan.folder) / "photographs.yaml"
        with atomic_path(file) as temporary:
            temporary.write_text(yaml.safe_dump(values, sort_keys=False), encoding="utf-8")
        command = [
            sys.executable, "-m", "snakemake", "--cores", given.cores,
            "--snakefile", str(ROOT / "Snakefile"), "--configfile", str(file),
            "--", *targets(plan, given.segmentation, given.refined),
        ]  # fmt: skip
        done = subprocess.run(command, check=False)
        if done.returncode:
            return done.returncode
        text = report(plan, given)
    except InputError as error:
        print(f"photographs: {error}", file=sys.stderr)
        return 2
    print(text)
    if given.output is not None:
        with atomic_path(given.output) as temporary:
            temporary.write_text(text + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
