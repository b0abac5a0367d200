"""Export a trained segmentation network to ONNX, and check it against torch with onnxruntime.

The graph takes `images` float32 [batch, 3, height, width], any batch and size, and gives `logits` at
the network's stride and `probabilities` at the images' size, whose argmax is the label. Classes,
normalisation and origin are in the file's metadata. The file appears only if it agrees with torch
on random images of several sizes. Needs `pip install onnx onnxruntime`.
"""

import json
import logging
import sys
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pydantic import Field
from torch import nn

from workflow_scripts.console.stage import PluggedFiles, run_stage
from workflow_scripts.errors import InputError
from workflow_scripts.models.segmentation import ExportableSegmentation
from workflow_scripts.refinement.prediction import load_segmentation
from workflow_scripts.settings.evaluation import ExportSettings
from workflow_scripts.storage.atomic import atomic_path
from workflow_scripts.storage.networks import read_figures, weights_of

logger = logging.getLogger(__name__)

# Batch, height, width: even and odd, small and larger than the crop of a small training.
CHECKED = ((1, 64, 64), (2, 96, 72), (1, 75, 101))
PACKAGES = ("onnx", "onnxruntime")


class Files(PluggedFiles):
    """Inputs and outputs."""

    model: Path = Field(description="folder of a trained segmentation network")
    output: Path = Field(description="file to write (.onnx)")


def require_packages() -> tuple[Any, Any]:
    """The modules onnx and onnxruntime; InputError that says how to install what is missing."""
    try:
        import onnx
        import onnxruntime
    except ImportError as error:
        raise InputError(
            f"the package {error.name} is not installed; `pip install {' '.join(PACKAGES)}` (the "
            "workflow itself does not need them)"
        ) from None
    return onnx, onnxruntime


def write_onnx(path: Path, network: nn.Module, opset: int, metadata: dict[str, str]) -> None:
    """Write a network as ONNX, batch and size left open; metadata are strings by name."""
    onnx, _ = require_packages()
    full, reduced = {0: "batch", 2: "height", 3: "width"}, {0: "batch", 2: "rows", 3: "columns"}
    with warnings.catch_warnings():
        # The tracing exporter follows sizes through timm's padding, with warnings that it does.
        warnings.simplefilter("ignore")
        torch.onnx.export(
            network,
            (torch.zeros(2, 3, 72, 104),),
            str(path),
            dynamo=False,
            opset_version=opset,
            dynamic_axes={"images": full, "logits": reduced, "probabilities": full},
            input_names=["images"],
            output_names=["logits", "probabilities"],
        )
    model = onnx.load(str(path))
    onnx.helper.set_model_props(model, metadata)
    onnx.checker.check_model(model)
    onnx.save(model, str(path))


def _images(normalise: bool) -> Iterator[torch.Tensor]:
    """Smooth random images in the network's own range, so that labels have borders."""
    generator = torch.Generator().manual_seed(0)
    for batch, height, width in CHECKED:
        coarse = torch.rand(batch, 3, 9, 9, generator=generator)
        smooth = nn.functional.interpolate(coarse, (height, width), mode="bicubic").clamp(0, 1)
        yield 255 * smooth if normalise else 4 * smooth - 2


def check(path: Path, network: ExportableSegmentation, settings: ExportSettings) -> None:
    """Compare the exported network with torch on several batches and sizes.

    Raises InputError where logits or labels differ by more than the settings allow.
    """
    _, onnxruntime = require_packages()
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    same = pixels = 0
    difference = 0.0
    for images in _images(network.normalise):
        with torch.inference_mode():
            logits, probabilities = (output.numpy() for output in network(images))
        found_logits, found = session.run(None, {"images": images.numpy()})
        largest = max(float(np.abs(logits).max()), 1e-6)
        difference = max(difference, float(np.abs(found_logits - logits).max()) / largest)
        same += int((found.argmax(axis=1) == probabilities.argmax(axis=1)).sum())
        pixels += found[:, 0].size
    agreement = same / pixels
    logger.info(
        "largest relative difference of logits %.1e, same label %.4f", difference, agreement
    )
    if difference > settings.max_difference or agreement < settings.min_agreement:
        raise InputError(
            f"the exported network differs from torch: logits by {difference:.1e} (allowed "
            f"{settings.max_difference:.1e}), labels agree on {agreement:.4f} (required "
            f"{settings.min_agreement}); try another --opset, or versions of onnx and onnxruntime"
        )


def work(files: Files, settings: ExportSettings) -> None:
    """Write the checked file."""
    require_packages()
    weights = weights_of(files.model)
    network, description = load_segmentation(weights, torch.device("cpu"))
    network = network.to(memory_format=torch.contiguous_format)
    exportable = ExportableSegmentation(network, settings.normalisation == "inside").eval()
    metadata = {
        "classes": json.dumps(["background", *description["classes"]], ensure_ascii=False),
        "normalisation": settings.normalisation,
        "mean": json.dumps(description["mean"]),
        "std": json.dumps(description["std"]),
        "figures": json.dumps(read_figures(weights)),
        "licence_of_initial_weights": str(description.get("licence_of_initial_weights")),
    }
    with atomic_path(files.output) as temporary:
        write_onnx(temporary, exportable, settings.opset, metadata)
        check(temporary, exportable, settings)
    logger.info("wrote %s (%.1f MB)", files.output, files.output.stat().st_size / 1e6)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit code."""
    return run_stage("export_onnx", __doc__, Files, ExportSettings, work, argv)


if __name__ == "__main__":
    sys.exit(main())
