"""Import a trained network: a published checkpoint (state dict of CAM, AMN or IRN on ResNet-50), or ours.

    python -m workflow_scripts.import_checkpoint --kind amn res50_amn.pth --output model.safetensors

In a run, the key `checkpoints` of the configuration does this in the place of a training
(docs/datasets.md); a network that was only put there would be trained over. Nothing in the file is
executed. Copies of one tensor, of which published checkpoints hold several, must agree; whatever is
missing or left over is named. Of a network that this workflow wrote, kind and classes are checked.
"""

import logging
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from pydantic import Field
from torch import Tensor, nn

from workflow_scripts.console.arguments import POSITIONAL
from workflow_scripts.console.stage import NoSettings, PluggedFiles, run_stage
from workflow_scripts.datasets.index import read_index
from workflow_scripts.datasets.kinds.voc12 import CLASSES
from workflow_scripts.doors.method import METHODS
from workflow_scripts.errors import InputError
from workflow_scripts.models.boundary import BoundaryNetwork
from workflow_scripts.models.boundary_settings import TrainBoundarySettings
from workflow_scripts.models.weights import PUBLISHED, check_kind, fill, read_weights, rename
from workflow_scripts.storage.networks import (
    copy_network,
    is_network,
    read_description,
    save_network,
)

logger = logging.getLogger("workflow_scripts")

IRN, BOUNDARY = "irn", "boundary"
CLASSIFIER = {"cam": "classifier.weight", "amn": "label_conditioning.weight"}


def class_count(kind: str, renamed: Mapping[str, Tensor], source: str) -> int:
    """Number of foreground classes that a checkpoint's head distinguishes; 0 for IRN, which has none.

    Raises:
        InputError: The tensor that tells is missing.
    """
    if kind == IRN:
        return 0
    head = renamed.get(CLASSIFIER[kind])
    if head is None:
        raise InputError(f"{source}: tensor {PUBLISHED[kind].signature} is missing")
    return int(head.shape[0] if kind == "cam" else head.shape[-1])


def class_names(count: int, index: Path | None, source: str) -> list[str]:
    """Names of a checkpoint's classes: the index's, else VOC's if there are 20, else their numbers.

    Raises:
        InputError: The index has another number of classes.
    """
    if index is not None and count:
        names = list(read_index(index).classes)
        if len(names) != count:
            raise InputError(
                f"{source}: distinguishes {count} classes, {index} has {len(names)}; give a network that "
                "was trained on the classes of this dataset"
            )
        return names
    if count == len(CLASSES):
        return list(CLASSES)
    if count:
        logger.warning("%d classes of unknown names: numbered; `--index` names them", count)
    return _numbers(count)


def _numbers(count: int) -> list[str]:
    return [str(number) for number in range(1, count + 1)]


def same_classes(trained: Sequence[str], index: Path, source: str) -> list[str]:
    """Names of the classes of one of our networks, which must be the index's in the same order.

    Raises:
        InputError: The index has other classes.
    """
    names = list(read_index(index).classes)
    # Numbers are what `class_names` gives where nobody named the classes.
    if list(trained) not in (names, _numbers(len(names))):
        differing = next(
            (f"{a} instead of {b}" for a, b in zip(trained, names, strict=False) if a != b),
            f"{len(trained)} instead of {len(names)}",
        )
        raise InputError(
            f"{source}: was trained on other classes than those of {index} ({differing}); give a network "
            "that was trained on the classes of this dataset, in their order"
        )
    return names


def our_network(kind: str, classes: Sequence[str]) -> tuple[nn.Module, dict[str, Any]]:
    """The network that a published checkpoint belongs into, without values, and its description.

    It is the method's own with its default settings, which are the published ones.
    """
    settings: Any = TrainBoundarySettings() if kind == IRN else METHODS.get(kind).Train()
    with torch.device("meta"):
        backbone = settings.backbone.build()
        if kind == IRN:
            network: nn.Module = BoundaryNetwork(backbone)
            description: dict[str, Any] = {"kind": BOUNDARY}
        else:
            method = METHODS.get(kind)(settings)
            network = method.build(backbone, len(classes))
            description = {"kind": kind, **method.description()}
    details = {
        "classes": list(classes),
        "backbone": settings.backbone.model_dump(),
        "precision": "float32",
    }
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
    classes = class_names(class_count(kind, renamed, source), index, source)
    network, description = our_network(kind, classes)
    fill(kind, network, renamed, source)
    return network, description


def import_ours(kind: str, file: Path, output: Path, index: Path | None) -> None:
    """Copy a network that this workflow wrote, with a description that says where it is from at first.

    Raises:
        InputError: It is of another kind, or was trained on other classes than the index's.
    """
    description = read_description(file, BOUNDARY if kind == IRN else kind)
    # Class boundaries are those of any classes.
    if kind != IRN and index is not None:
        description["classes"] = same_classes(description.get("classes", ()), index, str(file))
    copy_network(file, output, {"imported_from": str(file), **description})
    logger.info("copied %s, a network of this workflow, to %s", file, output)


def import_published(kind: str, file: Path, output: Path, index: Path | None) -> None:
    """Convert a published checkpoint (see `convert`) and write model.safetensors to `output`."""
    network, description = convert(kind, read_weights(file), str(file), index)
    save_network(output, network, {**description, "imported_from": str(file)})
    logger.info(
        "wrote %s: %s, %d classes", output, PUBLISHED[kind].title, len(description["classes"])
    )


class Files(PluggedFiles):
    """Inputs and outputs."""

    kind: str = Field(
        description="what the checkpoint holds: a method (published ones: cam, amn), or irn, a boundary "
        "network"
    )
    file: Path = Field(
        description="published state dict (.pth, .pt), or model.safetensors of a run",
        json_schema_extra=POSITIONAL,
    )
    index: Path | None = Field(
        None,
        description="index.csv of the dataset that the network was trained on, which names its classes "
        "(left out: those that the file says, else VOC's names for 20 classes, else numbers)",
    )
    output: Path | None = Field(
        None, description="file to write (left out: FILE with the suffix .safetensors)"
    )
    key: str | None = Field(
        None, description="key of the configuration that names the checkpoint, for messages"
    )

    @property
    def owned(self) -> Path:
        """The output."""
        return self.output or self.file.with_suffix(".safetensors")


def work(files: Files, settings: NoSettings) -> None:
    """Write the network."""
    place = f"{files.key}: " if files.key else ""
    if files.owned.resolve() == files.file.resolve():
        raise InputError(
            f"{place}{files.owned}: would overwrite the checkpoint; give another --output"
        )
    if files.kind not in (IRN, *METHODS.names()):
        raise InputError(f"--kind {files.kind}: expected {', '.join((*METHODS.names(), IRN))}")
    ours = is_network(files.file)
    if not ours and files.kind not in PUBLISHED:
        raise InputError(
            f"{place}{files.file}: no network of this workflow, and published checkpoints are known of "
            f"{', '.join(PUBLISHED)} alone; give model.safetensors of a run"
        )
    import_file = import_ours if ours else import_published
    try:
        import_file(files.kind, files.file, files.owned, files.index)
    except InputError as error:
        raise InputError(f"{place}{error}") from None


def main(argv: Sequence[str] | None = None) -> int:
    """Command line of the stage."""
    return run_stage("import_checkpoint", __doc__, Files, NoSettings, work, argv)


if __name__ == "__main__":
    sys.exit(main())
