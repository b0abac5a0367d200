"""The head of DeepLab-v2 and of AMN: parallel dilated convolutions, added up."""

from collections.abc import Sequence

from torch import Tensor, nn


class Aspp(nn.Module):
    """Atrous spatial pyramid pooling (DeepLab-v2, section 3.2; AMN's classifier).

    The sum of 3×3 convolutions of several dilations, each with a bias; weights start at N(0, 0.01),
    biases at 0.
    """

    def __init__(self, channels: int, classes: int, dilations: Sequence[int]) -> None:
        super().__init__()
        branches = [
            nn.Conv2d(channels, classes, 3, padding=dilation, dilation=dilation)
            for dilation in dilations
        ]
        for branch in branches:
            assert branch.bias is not None
            nn.init.normal_(branch.weight, std=0.01)
            nn.init.zeros_(branch.bias)
        self.branches = nn.ModuleList(branches)

    def forward(self, features: Tensor) -> Tensor:
        """[B, channels, h, w] → [B, classes, h, w]."""
        first, *rest = self.branches
        logits = first(features)
        for branch in rest:
            logits = logits + branch(features)
        return logits
