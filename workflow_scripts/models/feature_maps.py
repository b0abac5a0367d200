"""Backbones as networks: feature maps of images, always with stored batch statistics."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, Self

import torch
from torch import Tensor, nn

from workflow_scripts.doors.backbone import BackboneSettings
from workflow_scripts.errors import InputError
from workflow_scripts.models.attention_affinity import AttentionRecorder
from workflow_scripts.models.weights import load_exactly, read_weights

# Rows and columns of an image by which a backbone is tried, multiples of no stride.
PROBE = (99, 131)
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class Level(NamedTuple):
    """One feature map of a pyramid.

    Attributes:
        channels: Its channels.
        stride: Input pixels per cell, in both directions.
    """

    channels: int
    stride: int


class Backbone(nn.Module):
    """Base of the backbones.

    Batch normalisation always uses its stored statistics: batches are small, and images of several
    scales pass through the same network.

    Attributes:
        levels: Feature maps from fine to coarse; networks that have one alone give one.
        mean, std: Normalisation of RGB values in 0…1 that the weights expect.
        pads: Whether images of other sizes than multiples of the stride are padded: inference resizes its
            views to such multiples then, so that mirror images meet.
    """

    pads = False
    levels: tuple[Level, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]

    def pyramid(self, images: Tensor) -> list[Tensor]:
        """Feature maps of all levels.

        Args:
            images: Normalised images [B, 3, H, W] of any size: a network that needs multiples of a patch
                pads on the right and at the bottom.

        Returns:
            For each level [B, channels, ceil(H / stride), ceil(W / stride)].
        """
        raise NotImplementedError

    def forward(self, images: Tensor) -> Tensor:
        """The last level's feature map [B, channels, *grid(H, W)]."""
        return self.pyramid(images)[-1]

    def attended(self, images: Tensor, blocks: int) -> tuple[Tensor, Tensor | None]:
        """The same with the attention of a transformer.

        Args:
            images: See `pyramid`.
            blocks: How many of the last blocks' attention is averaged.

        Returns:
            The feature map [B, channels, h, w], and the attention of its cells to each other, [B, h·w, h·w]:
            a mean over heads and blocks; None for networks that have none.
        """
        return self(images), None

    @property
    def channels(self) -> int:
        """Channels of the last level."""
        return self.levels[-1].channels

    @property
    def stride(self) -> int:
        """Input pixels per cell of the last level."""
        return self.levels[-1].stride

    def grid(self, height: int, width: int) -> tuple[int, int]:
        """Rows and columns of the last level's feature map of an image."""
        return -(-height // self.stride), -(-width // self.stride)

    @property
    def weighted(self) -> nn.Module:
        """The module whose tensors a file of weights names."""
        return self

    def train(self, mode: bool = True) -> Self:
        """As usual, but batch normalisation keeps its stored statistics."""
        super().train(mode)
        for module in self.modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm):
                module.eval()
        return self


class StagedBackbone(Backbone):
    """Stages applied one after another, each of which is a level; the first of them do not train."""

    def __init__(
        self,
        modules: Mapping[str, nn.Module],
        stages: Sequence[Sequence[str]],
        levels: Sequence[Level],
        frozen_stages: int,
        mean: tuple[float, ...] = IMAGENET_MEAN,
        std: tuple[float, ...] = IMAGENET_STD,
    ) -> None:
        """Take the modules, by the names that files of weights give them.

        Args:
            modules: All modules.
            stages: Names of the modules of each stage, in order.
            levels: Channels and stride of each stage's feature map.
            frozen_stages: Number of stages that do not train.
            mean: See `Backbone`.
            std: See `Backbone`.
        """
        super().__init__()
        for name, module in modules.items():
            self.add_module(name, module)
        self._stages = [tuple(names) for names in stages]
        self.levels, self.mean, self.std = tuple(levels), mean, std
        self.frozen_stages = frozen_stages
        for names in self._stages[:frozen_stages]:
            for name in names:
                self.get_submodule(name).requires_grad_(False)

    def pyramid(self, images: Tensor) -> list[Tensor]:
        """See `Backbone`."""
        features, maps = images, []
        for number, names in enumerate(self._stages, start=1):
            # No graph is kept for stages that do not train.
            with torch.set_grad_enabled(torch.is_grad_enabled() and number > self.frozen_stages):
                for name in names:
                    features = getattr(self, name)(features)
            maps.append(features)
        return maps


class PyramidBackbone(Backbone):
    """A network that gives all its maps at once, under the name `network`."""

    def __init__(
        self,
        network: nn.Module,
        levels: Sequence[Level],
        mean: tuple[float, ...] = IMAGENET_MEAN,
        std: tuple[float, ...] = IMAGENET_STD,
        maps: Callable[[Any, Tensor], Sequence[Tensor]] | None = None,
        pads: bool = False,
        attends: bool = False,
    ) -> None:
        """Take the network.

        Args:
            network: Whose call gives the maps of all levels, unless `maps` says how to get them.
            levels: Channels and stride of each map.
            mean: See `Backbone`.
            std: See `Backbone`.
            maps: From the network and images to the maps.
            pads: See `Backbone`.
            attends: Whether it is a transformer whose last tokens are the cells of the last map.
        """
        super().__init__()
        self.network = network
        self.levels, self.mean, self.std = tuple(levels), mean, std
        self._maps, self.pads, self._attends = maps, pads, attends

    def pyramid(self, images: Tensor) -> list[Tensor]:
        """See `Backbone`."""
        return list(self._maps(self.network, images) if self._maps else self.network(images))

    def attended(self, images: Tensor, blocks: int) -> tuple[Tensor, Tensor | None]:
        """See `Backbone`."""
        if not self._attends:
            return self(images), None
        with AttentionRecorder(blocks) as recorder:
            features = self(images)
        return features, recorder.mean(features.shape[-2] * features.shape[-1])

    @property
    def weighted(self) -> nn.Module:
        """See `Backbone`."""
        return self.network


def load_backbone(settings: BackboneSettings) -> Backbone:
    """A backbone with the weights that its settings name.

    Raises:
        InputError: The weights are not there or do not fit; nothing starts from random weights.
    """
    backbone = settings.build()
    if settings.file is None:
        tensors, source = settings.published()
    else:
        tensors, source = read_weights(settings.file), settings.file
        tensors = settings.translated(tensors, backbone)
    load_exactly(backbone.weighted, tensors, source)
    check_grid(backbone, settings.name)
    return backbone


@torch.no_grad()
def check_grid(backbone: Backbone, name: str) -> None:
    """See that the feature map has the size that `grid` says: losses and maps rest on it.

    Raises:
        InputError: The backbone is not what its levels say.
    """
    training = backbone.training
    found = backbone.eval()(torch.zeros(1, 3, *PROBE))
    backbone.train(training)
    expected = (1, backbone.channels, *backbone.grid(*PROBE))
    if tuple(found.shape) != expected:
        raise InputError(
            f"backbone.name: `{name}` gives a feature map of {list(found.shape)} for an image of "
            f"{PROBE[1]}×{PROBE[0]} pixels, its levels say {list(expected)}; correct their channels or "
            "stride, or take another model"
        )
