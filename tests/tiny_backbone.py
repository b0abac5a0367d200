"""A backbone of five convolutions, for tests of what stands on one."""

from collections.abc import Sequence

from torch import nn
from workflow_scripts.models.backbones import IMAGENET_MEAN, IMAGENET_STD, Backbone


class TinyBackbone(Backbone):
    """Stride 16 in five stages of few channels, with batch normalisation."""

    mean, std = IMAGENET_MEAN, IMAGENET_STD

    def __init__(self, channels: int = 8, frozen_stages: int = 1) -> None:
        super().__init__(frozen_stages)
        self.channels = (channels,) * 5
        self.strides = (2, 4, 8, 16, 16)
        self.layers = nn.ModuleList(
            nn.Sequential(
                nn.Conv2d(3 if number == 0 else channels, channels, 3, stride, padding=1),
                nn.BatchNorm2d(channels),
                nn.ReLU(),
            )
            for number, stride in enumerate((2, 2, 2, 2, 1))
        )
        for layer in self.layers:
            nn.init.kaiming_normal_(layer[0].weight)
        self.freeze()

    def stage_modules(self) -> Sequence[nn.Module]:
        return list(self.layers)
