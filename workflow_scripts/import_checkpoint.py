"""Turn a published checkpoint (a PyTorch state dict of CAM, AMN or IRN on ResNet-50) into ours.

    python -m workflow_scripts.import_checkpoint --kind amn res50_amn.pth --output model.safetensors

Put the result where the workflow expects the trained network, for instance
results/{run}/{trial}/amn/model.safetensors. Nothing in the file is executed. Copies of one tensor, of
which published checkpoints hold several, must agree; whatever is missing or left over is named.
"""

import argparse
import logging
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from workflow_scripts.console.stage import USER_ERROR
from workflow_scripts.datasets.index import read_index
from workflow_scripts.datasets.voc_annotations import CLASSES
from workflow_scripts.errors import InputError
from workflow_scripts.models.amn import AmnNetwork
from workflow_scripts.models.backbones import build_backbone
from workflow_scripts.models.boundary import BoundaryNetwork
from workflow_scripts.models.cam import CamNetwork
from workflow_scripts.models.published import PUBLISHED, check_kind, fill, rename
from workflow_scripts.models.weights import read_weights
from workflow_scripts.settings.amn import TrainAmnSettings
from workflow_scripts.settings.boundary import TrainBoundarySettings
from workflow_scripts.settings.cam import TrainCamSettings
from workflow_scripts.storage.networks import save_network

logger = logging.getLogger("workflow_scripts")

CLASSIFIER = {"cam": "classifier.weight", "amn": "label_conditioning.weight"}


def class_count(kind: str, renamed: Mapping[str, Tensor], source: str) -> int:
    """Number of foreground classes that a checkpoint's head distinguishes; 0 for IRN, which has none.

    Raises:
        InputError: The tensor that tells is missing.
    """
    if kind == "irn":
        return 0
    head = renamed.get(CLASSIFIER[kind])
    if head is None:
        raise InputError(f"{source}: tensor {PUBLISHED[kind].signature} is missing")
    return int(head.shape[0] if kind == "cam" else head.shape[-1])


def class_names(count: int, index: Path | None) -> list[str]:
    """Names of a checkpoint's classes: the index's, else VOC's if there are 20, else their numbers.

    Raises:
        InputError: The index has another number of classes.
    """
    if index is not None and count:
        names = list(read_index(index).classes)
        if len(names) != count:
            raise InputError(
                f"--index {index}: has {len(names)} classes, the checkpoint {count}; give the index of "
                "the dataset that the network was trained on"
            )
        return names
    if count == len(CLASSES):
        return list(CLASSES)
    if count:
        logger.warning("%d classes of unknown names: numbered; `--index` names them", count)
    return [str(number) for number in range(1, count + 1)]


def our_network(kind: str, classes: Sequence[str]) -> tuple[nn.Module, dict[str, Any]]:
    """The network that a published checkpoint belongs into, without values, and its description."""
    count = len(classes)
    network: nn.Module
    with torch.device("meta"):
        if kind == "cam":
            backbone = TrainCamSettings().backbone
            network = CamNetwork(build_backbone(backbone), count)
            description: dict[str, Any] = {"kind": "cam"}
        elif kind == "amn":
            amn = TrainAmnSettings()
            backbone = amn.backbone
            network = AmnNetwork(
                build_backbone(backbone), count, amn.dilations, amn.dropout, label_conditioning=True
            )
            description = {"kind": "amn", "dilations": amn.dilations, "label_conditioning": True}
        else:
            backbone = TrainBoundarySettings().backbone
            network = BoundaryNetwork(build_backbone(backbone))
            description = {"kind": "boundary"}
    details = {"classes": list(classes), "backbone": backbone.model_dump(), "precision": "float32"}
    return network, {**description, **details}


def convert(
    kind: str, tensors: Mapping[str, Tensor], source: str, index: Path | None
) -> tuple[nn.Module, dict[str, Any]]:
    """Our network with a published checkpoint's tensors, and its description.

    Args:
        kind: cam, amn or irn.
        tensors: A published state dict, without the `module.` of data parallelism.
        source: Its name in messages.
        index: index.csv whose classes name the network's.

    Raises:
        InputError: The checkpoint is of another kind, incomplete, or its copies of a tensor differ.
    """
    check_kind(kind, tensors, source)
    renamed = rename(kind, tensors, source)
    classes = class_names(class_count(kind, renamed, source), index)
    network, description = our_network(kind, classes)
    fill(kind, network, renamed, source)
    return network, description


def import_checkpoint(kind: str, file: Path, output: Path, index: Path | None = None) -> None:
    """Convert one file (see `convert`) and write model.safetensors to `output`."""
    network, description = convert(kind, read_weights(file), str(file), index)
    save_network(output, network, {**description, "imported_from": file.name})
    logger.info(
        "wrote %s: %s, %d classes", output, PUBLISHED[kind].title, len(description["classes"])
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Command line."""
    parser = argparse.ArgumentParser(
        prog="python -m workflow_scripts.import_checkpoint",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("file", type=Path, metavar="FILE", help="published state dict (.pth)")
    parser.add_argument("--kind", required=True, choices=sorted(PUBLISHED), help="what FILE holds")
    parser.add_argument(
        "--output", type=Path, help="file to write (default: FILE with the suffix .safetensors)"
    )
    parser.add_argument(
        "--index",
        type=Path,
        help="index.csv of the dataset that the network was trained on, which names its classes "
        "(default: VOC's names for 20 classes, else numbers)",
    )
    given = parser.parse_args(argv)
    logging.basicConfig(level=logging.INFO, format="%(message)s", force=True)
    output = given.output or given.file.with_suffix(".safetensors")
    try:
        if output == given.file:
            raise InputError(f"{output}: would overwrite the checkpoint; give another --output")
        import_checkpoint(given.kind, given.file, output, given.index)
    except InputError as error:
        print(error, file=sys.stderr)
        return USER_ERROR
    return 0


if __name__ == "__main__":
    sys.exit(main())
