"""Trained networks on disk: safetensors, with what is needed to build the network again."""

import json
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from workflow_scripts.errors import InputError
from workflow_scripts.storage.atomic import atomic_path


def save_network(path: Path, network: nn.Module, description: dict[str, Any]) -> None:
    """Write a network's tensors, whole or not at all.

    Args:
        path: model.safetensors.
        network: The network.
        description: What builds it again (JSON), with `kind` and `classes`.
    """
    tensors = {name: tensor.contiguous().cpu() for name, tensor in network.state_dict().items()}
    with atomic_path(path) as temporary:
        save_file(tensors, temporary, {"description": json.dumps(description, sort_keys=True)})


def read_description(path: Path, kind: str) -> dict[str, Any]:
    """What `save_network` was told about a network.

    Raises:
        InputError: The file is missing, damaged, or holds a network of another kind.
    """
    try:
        with safe_open(path, framework="pt") as file:
            description: dict[str, Any] = json.loads((file.metadata() or {})["description"])
    except FileNotFoundError:
        raise InputError(f"{path}: no such file; train the network first") from None
    except (SafetensorError, OSError, KeyError, ValueError) as error:
        raise InputError(
            f"{path}: not a network that this workflow wrote ({error}); `import_checkpoint` converts "
            "published ones"
        ) from None
    if description.get("kind") != kind:
        raise InputError(
            f"{path}: holds a network of kind {description.get('kind')}, expected {kind}"
        )
    return description


def read_tensors(path: Path) -> dict[str, Tensor]:
    """All tensors of a network that `save_network` wrote, by name."""
    return load_file(path)


def load_network(path: Path, network: nn.Module) -> None:
    """Fill a network from `path`; every tensor must fit."""
    try:
        network.load_state_dict(load_file(path))
    except RuntimeError as error:
        reason = " ".join(str(error).split())
        raise InputError(
            f"{path}: does not fit the network that its description names ({reason:.300}); train it anew"
        ) from None
