"""A trained segmentation model is a folder: model.safetensors, model.json, figures.json."""

import json
from pathlib import Path
from typing import Any

from workflow_scripts.errors import InputError

WEIGHTS_NAME, DESCRIPTION_NAME, FIGURES_NAME = "model.safetensors", "model.json", "figures.json"


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
