"""Copies of trained networks, from one run into another."""

import json
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file

from workflow_scripts.storage.atomic import atomic_path


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
