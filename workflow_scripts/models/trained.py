"""Trained networks made ready for inference."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from workflow_scripts.errors import InputError
from workflow_scripts.storage.networks import read_description


def describe_trained(path: Path, kind: str, classes: Sequence[str]) -> dict[str, Any]:
    """Description of a trained network, checked against the dataset's classes.

    Raises:
        InputError: It is of another kind, or was trained on another number of classes.
    """
    description = read_description(path, kind)
    trained = description.get("classes", classes)
    if len(trained) != len(classes):
        raise InputError(
            f"{path}: was trained on {len(trained)} classes, the dataset has {len(classes)}"
            f" ({', '.join(classes[:5])} …); take the network and the classes of one run"
        )
    return description


def ready_for_inference(network: Any, device: torch.device) -> Any:
    """The network in evaluation mode (dropout off) on its device, in the faster memory format."""
    ready: nn.Module = network.eval()
    return ready.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
