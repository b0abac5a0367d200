"""Trained networks on disk: safetensors, with what is needed to build the network again.

A trained segmentation model is a folder: model.safetensors, model.json, figures.json.
"""

import json
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from workflow_scripts.errors import InputError
from workflow_scripts.storage.atomic import atomic_path

WEIGHTS_NAME, DESCRIPTION_NAME, FIGURES_NAME = "model.safetensors", "model.json", "figures.json"


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


def is_network(path: Path) -> bool:
    """Whether a file is a network that this workflow wrote, of whatever kind."""
    try:
        with safe_open(path, framework="pt") as file:
            return "description" in (file.metadata() or {})
    except (SafetensorError, OSError):
        return False


def copy_network(source: Path, target: Path, description: dict[str, Any]) -> None:
    """Write a network's tensors, as they are, with a new description; whole or not at all.

    Args:
        source: model.safetensors of a run.
        target: model.safetensors to write.
        description: Of the copy.
    """
    with atomic_path(target) as temporary:
        metadata = {"description": json.dumps(description, sort_keys=True)}
        save_file(load_file(source), temporary, metadata)


def weights_of(model: Path) -> Path:
    """Return the weights of a model, given as its folder or as the file itself.

    Raises InputError when there is no such folder, or no weights in it.
    """
    weights = model / WEIGHTS_NAME if model.is_dir() else model
    if not weights.is_file():
        raise InputError(
            f"{weights}: no such file. Give the folder of a trained segmentation network,"
            " results/<run>/<trial>/<method>/<threshold>/segmentation"
        )
    return weights


def read_figures(weights: Path) -> dict[str, Any] | None:
    """Return what the model reached, as recorded beside its weights; None where nothing is."""
    path = weights.with_name(FIGURES_NAME)
    if not path.is_file():
        return None
    try:
        figures: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: not readable ({error}); delete it or copy it again") from None
    return figures
