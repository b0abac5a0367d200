"""What each method reaches on one's own photographs that have masks: a markdown table.

`make photographs ROOT=/path/to/VOC2012` or, with more to say,

    python -m tools.photographs --kind voc12 --root /path/to/VOC2012 --trials 3

writes a configuration, runs the workflow as far as the activations are measured, and prints a table: best
threshold and the one that `auto` chooses without a mask, mean over all thresholds, and plateau, for every
split, with what was done. With `--segmentation`, a segmentation network is trained on each method's masks
too. Nothing is run again that is there.
"""

import argparse
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import yaml

from tools.documentation import ROOT
from workflow_scripts.datasets.index import read_index
from workflow_scripts.errors import InputError
from workflow_scripts.evaluation.confusion import Evaluation
from workflow_scripts.evaluation.run_results import RunFolder
from workflow_scripts.evaluation.summary import sweep_figures
from workflow_scripts.planning.configuration import FULL
from workflow_scripts.planning.workflow import Workflow
from workflow_scripts.report.names import method_name
from workflow_scripts.settings.base import merge
from workflow_scripts.storage.atomic import atomic_path

AUTO = "auto"
METHODS = ("cam", "vit_cam", "amn", "amn_on_vit_cam")
# Methods that go on from a network whose backbone learns.
LEARNING = ("recam",)
Column = tuple[str, Callable[[dict[str, float]], float], str]
COLUMNS: tuple[Column, ...] = (
    ("best threshold", lambda one: one["best_miou"], ""),
    ("`auto` threshold", lambda one: one["auto_miou"], ""),
    ("chosen", lambda one: one["auto_threshold"], ""),
    ("mean over thresholds", lambda one: one["mean_miou"], ""),
    ("plateau", lambda one: 100 * one["plateau"], " %"),
)


def optimiser(rate: float, factor: float = 1.0) -> dict[str, Any]:
    """AdamW on one cycle."""
    return {
        "name": "adamw", "learning_rate": rate, "head_factor": factor, "weight_decay": 1e-2,
        "schedule": "one_cycle",
    }  # fmt: skip


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
        shown = sizes(side - side % 32)
        return {"epochs": epochs, "optimiser": optimiser(3e-4, factor), "augmentation": shown}

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
            (*(name for name in given.methods if name not in ("amn_on_vit_cam",)), "amn", "inference",
             "refinement", "segmentation"), 1
        ),
        "refine_seeds": {
            name: {"foreground_threshold": AUTO, "background_threshold": AUTO}
            for name in ("cam", "vit_cam", "amn")
        },
        "pseudo_masks": {"refinement": "none"},
        "sweep": {"refined_thresholds": [0.2, 0.3, 0.4, 0.5, 0.6] if given.refined else []},
        "train_segmentation": {
            "segmenter": "mlp",
            "backbone": backbone,
            "training": {
                "epochs": 30,
                "optimiser": optimiser(1e-4, 10),
                "augmentation": sizes(384),
            },
        },
    }  # fmt: skip
    values = merge(values, learning(given.side) if given.learning else frozen(given.side))
    for name in ("cam", "vit_cam", "amn"):
        values[f"train_{name}"]["backbone"] = backbone
    for file in given.configfile:
        values = merge(values, yaml.safe_load(Path(file).read_text(encoding="utf-8")) or {})
    return values


def targets(plan: Workflow, segmentation: bool) -> list[str]:
    """Files from which the table is made."""
    files = plan.of_methods(AUTO, "thresholds.json")
    for shard in plan.activation_shards:
        files += plan.of_methods("sweep", f"{shard}.safetensors")
    if segmentation:
        for folder in plan.segmentations:
            parent = folder.removesuffix("/segmentation")
            files += [
                f"{parent}/evaluation/segmentation/{one}.json" for one in plan.segmentation_shards
            ]
    return files


def figures(plan: Workflow, split: str) -> dict[str, list[dict[str, float]]]:
    """What each method reached on a split, a dictionary for each trial."""
    folder = RunFolder.of(
        Path(plan.folder), plan.activation_shards, segmentation_shards=plan.segmentation_shards
    )
    found: dict[str, list[dict[str, float]]] = {}
    for method in plan.methods:
        for trial in plan.trials:
            sweeps = folder.sweeps(trial, method)[split]
            threshold = folder.threshold(trial, method, AUTO)
            assert threshold is not None
            one = sweep_figures(sweeps)
            one["auto_threshold"] = threshold
            one["auto_miou"] = 100 * sweeps.plain.curve().miou_at(threshold)
            found.setdefault(method, []).append(one)
    for method in plan.settings.methods:
        source = "truth" if method == FULL else AUTO
        for trial in plan.trials:
            masks: dict[str, Evaluation] = folder.masks(trial, method, source, "segmentation")
            if split in masks:
                rows = found.setdefault(method, [{} for _ in plan.trials])
                rows[trial]["network"] = 100 * masks[split].total.mean_iou("wrong")
    return found


def shown(values: Sequence[float], digits: int, unit: str) -> str:
    """Mean, and standard deviation over several trials."""
    spread = f" ± {stdev(values):.{digits}f}" if len(values) > 1 else ""
    return f"{mean(values):.{digits}f}{spread}{unit}"


def table(found: dict[str, list[dict[str, float]]]) -> str:
    """A row for each method; columns that nothing is known for are left out."""
    columns = list(COLUMNS)
    if any("refined_best_miou" in one for rows in found.values() for one in rows):
        columns.append(("best after CRF", lambda one: one["refined_best_miou"], ""))
    if any("network" in one for rows in found.values() for one in rows):
        columns.append(("segmentation network", lambda one: one["network"], ""))
    lines = [
        f"| method | {' | '.join(title for title, _, _ in columns)} |",
        "| --- |" + " ---: |" * len(columns),
    ]
    for method, trials in found.items():
        cells = []
        for title, value, unit in columns:
            try:
                cells.append(
                    shown([value(one) for one in trials], 2 if title == "chosen" else 1, unit)
                )
            except KeyError:
                cells.append("")
        lines.append(f"| {method_name(method)} | {' | '.join(cells)} |")
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
    kind = (
        "its backbone learns"
        if given.learning
        else f"frozen, features stored once of {given.side}×{given.side} pixels and their mirror images"
    )
    parts = [
        f"{given.kind}: {images} images, {len(index.classes)} classes; {given.backbone} ({given.weights}), "
        f"{kind}; "
        f"{plan.settings.trials} trial(s); mIoU in percent, mean ± standard deviation; commit {commit()}."
    ]
    for split in counts:
        parts.append(f"Split {split}:\n\n{table(figures(plan, split))}")
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
    made.add_argument("--refined", action="store_true", help="also after a dense CRF")
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
            "--", *targets(plan, given.segmentation),
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
