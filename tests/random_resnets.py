"""Weights of ResNets that no training has seen, as files, for machines without internet."""

from pathlib import Path
from typing import Any

import torch
import torchvision
from safetensors.torch import save_file


def random_resnet(name: str, folder: Path) -> str:
    """Write random weights of torchvision's `resnet50` or `resnet101`; returns the file's path.

    Residual branches are small, so that activations keep their size through a hundred layers without
    batch statistics.
    """
    torch.manual_seed(0)
    network = getattr(torchvision.models, name)(weights=None)
    for module in network.modules():
        if isinstance(module, torchvision.models.resnet.Bottleneck):
            torch.nn.init.constant_(module.bn3.weight, 0.1)
    path = folder / f"{name}.safetensors"
    save_file(network.state_dict(), path)
    return str(path)


def weights_of_all_stages(folder: Path) -> dict[str, Any]:
    """Configuration that starts every network of the paper's recipe from files of random weights."""
    small, large = (random_resnet(name, folder) for name in ("resnet50", "resnet101"))
    return {
        "train_cam": {"backbone": {"weights": small}},
        "train_amn": {"backbone": {"weights": small}},
        "boundary": {"train": {"backbone": {"weights": small}}},
        "train_segmentation": {"backbone": {"weights": large}},
    }
