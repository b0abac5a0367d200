"""Trained networks made ready for inference."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from pydantic import ValidationError
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


@contextmanager
def described(path: Path) -> Iterator[None]:
    """Hold the reading of a network's description, which another version may have written.

    Raises:
        InputError: The description lacks something, or says what this version does not know.
    """
    try:
        yield
    except (KeyError, TypeError, ValidationError) as error:
        reason = f"no {error}" if isinstance(error, KeyError) else str(error).replace("\n", " ")
        raise InputError(
            f"{path}: its description is of another version of the workflow ({reason:.200}); use the"
            " version that wrote it, or train the network anew"
        ) from None


def ready_for_inference(network: Any, device: torch.device) -> Any:
    """The network in evaluation mode (dropout off) on its device, in the faster memory format."""
    ready: nn.Module = network.eval()
    return ready.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
