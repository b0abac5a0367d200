"""Peak memory of four stages on 2,000 images against 200: it must not grow with the dataset."""

import os
from pathlib import Path
from tempfile import TemporaryDirectory

from tools.benchmarks.comparison import Comparison
from tools.benchmarks.networks import random_backbone
from tools.benchmarks.peak_memory import peak_of
from workflow_scripts.backbones.efficientnet_lite0 import EfficientNetLite0
from workflow_scripts.datasets.kinds.demo import class_names
from workflow_scripts.models.classification import CamNetwork
from workflow_scripts.storage.networks import save_network

SIZE = 64
SPLIT = "train"


def _save_model(path: Path) -> None:
    """A classifier on the demo's backbone, with random weights."""
    backbone = EfficientNetLite0()
    network = CamNetwork(random_backbone(backbone), len(class_names()))
    description = {
        "kind": "cam",
        "classes": list(class_names()),
        "backbone": backbone.model_dump(),
        "precision": "auto",
    }
    save_network(path, network, description)


def _peaks(folder: Path, model: Path, images: int) -> dict[str, int]:
    """Peak bytes of each stage on a demo dataset of so many images, one thread each."""
    scenes = ("--train-images", images, "--val-images", 1, "--image-size", SIZE)
    peak_of(
        "prepare_dataset", "demo", "--output", folder, "--threads", os.cpu_count() or 1, *scenes
    )
    common = ("--index", folder / "index.csv", "--split", SPLIT, "--output")
    activations, seeds = folder / "activations.safetensors", folder / "seeds.zip"
    composition = folder / "composition.json"
    return {
        "infer_cam": peak_of(
            "infer",
            "cam",
            *common,
            activations,
            "--model",
            model,
            "--device",
            "cpu",
            "--scales",
            1.0,
        ),
        "refine_seeds": peak_of(
            "refine_seeds",
            *common,
            seeds,
            "--activations",
            activations,
            "--composition",
            composition,
        ),
        "sweep_thresholds": peak_of(
            "sweep_thresholds", *common, folder / "sweep.safetensors", "--activations", activations
        ),
        "evaluate_masks": peak_of(
            "evaluate_masks", *common, folder / "evaluation.json", "--masks", seeds
        ),
    }


def measure(rounds: int = 1, *, few: int = 200, many: int = 2000) -> Comparison:
    """Compare peaks, one pair a stage; once, whatever `rounds` says."""
    with TemporaryDirectory() as name:
        folder = Path(name)
        model = folder / "model.safetensors"
        _save_model(model)
        small = _peaks(folder / "few", model, few)
        large = _peaks(folder / "many", model, many)
    growth = ", ".join(f"{stage} {large[stage] / small[stage]:.3f}" for stage in small)
    return Comparison(
        [(float(small[stage]), float(large[stage])) for stage in small],
        "bytes, peak of a stage's process",
        note=f"demo images of {SIZE}×{SIZE}, one scale, one thread: reference {few}, ours {many} images; "
        f"ratio: ours / reference; {growth}",
        growth=True,
    )
