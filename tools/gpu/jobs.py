"""Stages as jobs of their own: killed and resumed, side by side, on several devices, the whole workflow."""

import math
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
import yaml
from safetensors.torch import load_file

from tools.gpu.check import Check
from tools.gpu.material import ROOT, Material
from workflow_scripts.storage.activations import ActivationReader
from workflow_scripts.training.checkpoint import Checkpoint

# Of weights and activations of two runs on one device; sums on GPUs are added in no fixed order.
TOLERANCE = 1e-2
PATIENCE = 420
IMAGE_SIZE = 96


def device_flag(material: Material) -> list[str]:
    """`--device …`: the job takes its own device, as any other."""
    return ["--device", material.device.type]


def command(stage: str, *flags: object) -> list[str]:
    """A stage's command."""
    return [sys.executable, "-m", f"workflow_scripts.{stage}", *map(str, flags)]


def run(words: Sequence[str]) -> None:
    """Run a command to its end.

    Raises:
        RuntimeError: It failed; with what it said of errors, and last.
    """
    done = subprocess.run(
        words, cwd=ROOT, capture_output=True, text=True, timeout=PATIENCE, check=False
    )
    if done.returncode:
        lines = f"{done.stdout}\n{done.stderr}".splitlines()
        telling = [line for line in lines if "rror" in line] or lines
        raise RuntimeError(f"{' '.join(words[2:5])}: {' '.join(telling[:3])} … {lines[-1]}")


def dataset(material: Material) -> Path:
    """The index of a few of the demo's scenes."""
    folder = material.folder / "dataset"
    if not (folder / "index.csv").is_file():
        flags = ("--train-images", 6, "--val-images", 1, "--image-size", IMAGE_SIZE)
        run(command("prepare_dataset", "demo", "--output", folder, *flags))
    return folder / "index.csv"


def training(material: Material, output: Path, steps: int) -> list[str]:
    """Flags of a training of so many steps, after each of which its state may be saved."""
    return [
        "cam", "--index", str(dataset(material)), "--output", str(output), *device_flag(material),
        "--workers", "0", "--checkpoint-minutes", "0.0001", "--backbone-name", "efficientnet_lite0",
        "--training-epochs", "1000", "--training-max-steps", str(steps), "--training-batch-size", "2",
        "--training-precision", "float32", "--training-optimiser-learning-rate", "0.001",
        "--training-augmentation-resize", "none", "--training-augmentation-crop", "64",
    ]  # fmt: skip


def difference(found: Path, expected: Path) -> float:
    """By how much two networks differ, as a share of the size of all their numbers."""
    one, other = load_file(found), load_file(expected)
    apart = sum(
        float((one[name] - tensor).double().square().sum()) for name, tensor in other.items()
    )
    size = sum(float(tensor.double().square().sum()) for tensor in other.values())
    return math.sqrt(apart / size)


def checks(material: Material) -> Iterator[Check]:
    """Jobs on one device, and on two where there are two."""
    whole = material.folder / "whole" / "model.safetensors"
    steps = 60 if material.device.type == "cuda" else 4
    run(command("train", *training(material, whole, steps)))
    yield killed(material, whole, steps)
    yield side_by_side(material, whole)
    yield distributed(material, whole, steps)


def killed(material: Material, whole: Path, steps: int) -> Check:
    """A training that is killed amid its steps, and started again, ends as one that was not."""
    output = material.folder / "killed" / "model.safetensors"
    words = command("train", *training(material, output, steps))
    process = subprocess.Popen(
        words, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    saved = Checkpoint(output, "").path
    end = time.monotonic() + PATIENCE
    while process.poll() is None and not saved.exists() and time.monotonic() < end:
        time.sleep(0.005)
    interrupted = process.poll() is None
    process.send_signal(signal.SIGKILL)
    process.wait()
    run(words)
    largest = difference(output, whole)
    said = f"{'killed amid' if interrupted else 'ended before it was killed, of'} {steps} steps"
    return Check(
        "kill and resume",
        interrupted and largest <= TOLERANCE and not saved.exists(),
        f"{said}; weights differ by {largest:.1e}",
    )


def side_by_side(material: Material, model: Path) -> Check:
    """Two inferences at the same time: on one device, one waits for the other."""
    outputs = [material.folder / f"side-{number}.safetensors" for number in range(2)]
    environment = dict(os.environ)
    if material.device.type == "cuda":
        environment["CUDA_VISIBLE_DEVICES"] = os.environ.get("CUDA_VISIBLE_DEVICES", "0").split(
            ","
        )[0]
    processes = [
        subprocess.Popen(
            command(
                "infer", "cam", "--index", dataset(material), "--model", model, "--output", output,
                "--split", "train", "--scales", "1", *device_flag(material),
            ),
            cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )
        for output in outputs
    ]  # fmt: skip
    said = [process.communicate(timeout=PATIENCE)[0] for process in processes]
    for process, words in zip(processes, said, strict=True):
        if process.returncode:
            raise RuntimeError(words[-900:])
    waited = sum("waiting until" in words for words in said)
    with ActivationReader(outputs[0]) as one, ActivationReader(outputs[1]) as other:
        size = (IMAGE_SIZE, IMAGE_SIZE)
        largest = max(
            float(abs(one.read_full(name, *size) - other.read_full(name, *size)).max(initial=0))
            for name in one.ids
        )
    return Check(
        "two processes on one device",
        largest <= TOLERANCE,
        f"both end, {waited} waited for the other; activations differ by {largest:.1e}",
    )


def distributed(material: Material, whole: Path, steps: int) -> Check:
    """A training on two devices ends as one on one."""
    name = "two devices"
    if material.device.type != "cuda" or torch.cuda.device_count() < 2:
        return Check(name, None, "there are no two GPUs here")
    output = material.folder / "distributed" / "model.safetensors"
    run([
        sys.executable, "-m", "workflow_scripts.training.launch", "2", "train",
        *training(material, output, steps),
    ])  # fmt: skip
    largest = difference(output, whole)
    return Check(name, largest <= TOLERANCE, f"weights differ by {largest:.1e}")


def workflow(material: Material) -> Iterator[Check]:
    """The whole workflow in miniature by one command of Snakemake, with CRF and boundaries."""
    tiny = {"name": "efficientnet_lite0"}
    values = {
        "run": "gpu_miniature",
        "results": str(material.folder / "workflow"),
        "dataset": {"kind": "demo", "train_images": 8, "val_images": 4, "image_size": 128},
        "methods": ["cam", "amn"],
        "thresholds": [0.5],
        "refine_seeds": {
            "cam": {"foreground_threshold": 0.3, "background_threshold": 0.05},
            "amn": {"foreground_threshold": 0.45, "background_threshold": 0.15},
        },
        "pseudo_masks": {"refinement": "crf"},
        "boundary": {"enabled": True, "train": {"backbone": tiny}},
        "evaluate_segmentation": {"flip": True, "refine": True},
    }
    path = material.folder / "workflow.yaml"
    path.write_text(yaml.safe_dump(values), encoding="utf-8")
    files = [ROOT / "config" / name for name in ("config.yaml", "miniature.yaml")]
    run([
        sys.executable, "-m", "snakemake", "--profile", "local", "all", "--quiet", "all",
        "--configfile", *map(str, [*files, path]),
    ])  # fmt: skip
    [summary] = (material.folder / "workflow").rglob("summary.json")
    yield Check(
        "whole workflow", summary.stat().st_size > 0, "runs to its report, CRF and boundaries"
    )
