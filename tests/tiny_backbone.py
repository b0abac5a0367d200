"""A backbone of five convolutions, for tests of what stands on one."""

from torch import nn

from workflow_scripts.models.feature_maps import Level, StagedBackbone

STRIDES = (2, 4, 8, 16, 16)


class TinyBackbone(StagedBackbone):
    """Stride 16 in five stages of few channels, with batch normalisation."""

    def __init__(self, channels: int = 8, frozen_stages: int = 1) -> None:
        layers = [
            nn.Sequential(
                nn.Conv2d(3 if number == 0 else channels, channels, 3, stride, padding=1),
                nn.BatchNorm2d(channels),
                nn.ReLU(),
            )
            for number, stride in enumerate((2, 2, 2, 2, 1))
        ]
        for layer in layers:
            nn.init.kaiming_normal_(layer[0].weight)
        names = [f"layer{number}" for number in range(5)]
        super().__init__(
            dict(zip(names, layers, strict=True)),
            [(name,) for name in names],
            [Level(channels, stride) for stride in STRIDES],
            frozen_stages,
        )
