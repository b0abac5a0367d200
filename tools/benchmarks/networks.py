"""Networks with seeded random weights, as users have them and as the workflow sets them up."""

from copy import deepcopy
from typing import TypeVar

import torch
import torchvision
from torch import nn

from workflow_scripts.doors.backbone import BackboneSettings
from workflow_scripts.models.feature_maps import Backbone

Network = TypeVar("Network", bound=nn.Module)
SMALL_BRANCH = 0.1


def random_backbone(settings: BackboneSettings) -> Backbone:
    """A backbone whose activations keep their size through all layers, as trained ones do.

    Without training and batch statistics, residual branches must be small for that.
    """
    torch.manual_seed(0)
    backbone = settings.build()
    for module in backbone.modules():
        if isinstance(module, torchvision.models.resnet.Bottleneck):
            nn.init.constant_(module.bn3.weight, SMALL_BRANCH)
    return backbone


def both_layouts(network: Network) -> tuple[Network, Network]:
    """The network, contiguous, and a copy in the workflow's layout, channels_last."""
    ours = deepcopy(network).to(memory_format=torch.channels_last)
    return network, ours
