"""Convolutional networks that give features, by name, always with stored batch statistics."""

from collections.abc import Sequence
from typing import Any, Self

import timm
import torch
import torchvision
from torch import Tensor, nn

from workflow_scripts.errors import InputError
from workflow_scripts.models.weights import imagenet_weights, load_exactly, read_weights
from workflow_scripts.settings.backbone import BackboneSettings

RESNETS = {"resnet50": torchvision.models.resnet50, "resnet101": torchvision.models.resnet101}
TIMM_NAMES = {"efficientnet_lite0": "tf_efficientnet_lite0"}
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class Backbone(nn.Module):
    """Base of the backbones: five stages, the first `frozen_stages` of which do not train.

    Batch normalisation always uses its stored statistics: batches are small, and images of several
    scales pass through the same network.

    Attributes:
        channels: Channels of each stage's feature map.
        strides: Input pixels per feature pixel, for each stage.
        mean, std: Normalisation of RGB values in 0…1 that the weights expect.
    """

    channels: tuple[int, ...]
    strides: tuple[int, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]

    def __init__(self, frozen_stages: int) -> None:
        super().__init__()
        self.frozen_stages = frozen_stages

    def stage_modules(self) -> Sequence[nn.Module]:
        """The modules of the five stages, to be applied one after another."""
        raise NotImplementedError

    def stages(self, images: Tensor) -> list[Tensor]:
        """Feature maps of all stages.

        Args:
            images: Normalised images [B, 3, H, W].

        Returns:
            Five maps [B, channels[i], H / strides[i], W / strides[i]], sizes rounded up.
        """
        features, maps = images, []
        for number, stage in enumerate(self.stage_modules(), start=1):
            # No graph is kept for stages that do not train.
            with torch.set_grad_enabled(torch.is_grad_enabled() and number > self.frozen_stages):
                features = stage(features)
            maps.append(features)
        return maps

    def forward(self, images: Tensor) -> Tensor:
        """The last stage's feature map [B, channels[-1], H / strides[-1], W / strides[-1]]."""
        return self.stages(images)[-1]

    def freeze(self) -> None:
        """Take the frozen stages out of training."""
        for stage in self.stage_modules()[: self.frozen_stages]:
            stage.requires_grad_(False)

    def train(self, mode: bool = True) -> Self:
        """As usual, but batch normalisation keeps its stored statistics."""
        super().train(mode)
        for module in self.modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm):
                module.eval()
        return self


class ResNetBackbone(Backbone):
    """torchvision's ResNet (V1.5: the stride sits in the 3×3 convolution), under its own names.

    The paper's output stride of 16 is the last stage at stride 1 without dilation; DeepLab's 8 is the
    last two stages at stride 1, dilated by 2 and 4.
    """

    mean, std = IMAGENET_MEAN, IMAGENET_STD
    channels = (64, 256, 512, 1024, 2048)

    def __init__(self, settings: BackboneSettings) -> None:
        super().__init__(settings.frozen_stages)
        stride_one = {32: (False, False), 16: (False, True), 8: (True, True)}.get(
            settings.output_stride
        )
        if stride_one is None:
            raise InputError(
                f"backbone.output_stride: {settings.name} can give 8, 16 or 32, "
                f"not {settings.output_stride}"
            )
        dilated = [False, *stride_one] if settings.dilate else [False, False, False]
        network = RESNETS[settings.name](weights=None, replace_stride_with_dilation=dilated)
        self.conv1, self.bn1 = network.conv1, network.bn1
        self.relu, self.maxpool = network.relu, network.maxpool
        self.layer1, self.layer2 = network.layer1, network.layer2
        self.layer3, self.layer4 = network.layer3, network.layer4
        stride = 8
        strides = [4, 4, 8]
        for layer, removed in zip((self.layer3, self.layer4), stride_one, strict=True):
            if removed:
                layer[0].conv2.stride = layer[0].downsample[0].stride = (1, 1)
            else:
                stride *= 2
            strides.append(stride)
        self.strides = tuple(strides)

    def stage_modules(self) -> Sequence[nn.Module]:
        """conv1 with pooling, layer1 … layer4."""
        stem = nn.Sequential(self.conv1, self.bn1, self.relu, self.maxpool)
        return [stem, self.layer1, self.layer2, self.layer3, self.layer4]


class TimmBackbone(Backbone):
    """Any convolutional timm model whose features come in five stages."""

    def __init__(self, settings: BackboneSettings) -> None:
        super().__init__(settings.frozen_stages)
        name = TIMM_NAMES.get(settings.name, settings.name)
        stride = settings.output_stride
        try:
            network: Any = timm.create_model(
                name,
                features_only=True,
                output_stride=stride if settings.dilate else 32,
                pretrained=False,
            )
        except (RuntimeError, NotImplementedError, TypeError, ValueError, AssertionError) as error:
            raise InputError(
                f"backbone.name: timm has no convolutional model `{name}` that gives features at "
                f"output stride {stride} ({error}); "
                "`python -c 'import timm; print(timm.list_models())'` lists the names"
            ) from None
        self.network = network
        self.channels = tuple(network.feature_info.channels())
        self.strides = tuple(network.feature_info.reduction())
        if not settings.dilate and stride in self.strides:
            last = max(i for i, reduction in enumerate(self.strides) if reduction <= stride)
            for module in self._modules_after(last):
                if hasattr(module, "stride"):
                    module.stride = (1, 1)
            self.strides = tuple(min(reduction, stride) for reduction in self.strides)
        self._check_strides(name)
        configuration = timm.get_pretrained_cfg(name)
        self.mean = tuple(configuration.mean) if configuration else IMAGENET_MEAN
        self.std = tuple(configuration.std) if configuration else IMAGENET_STD

    def _modules_after(self, stage: int) -> list[Any]:
        """Modules behind the feature map of a stage (counted from 0), in the order of definition."""
        end = self._modules_until(stage)
        return list(dict(self.network.named_modules()).values())[end:]

    def _modules_until(self, stage: int) -> int:
        """How many modules, in the order of definition, lead to the feature map of a stage."""
        last = self.network.feature_info.module_name(stage)
        names = list(dict(self.network.named_modules()))
        return max(i for i, n in enumerate(names) if n == last or n.startswith(last + ".")) + 1

    def _check_strides(self, name: str) -> None:
        try:
            with torch.no_grad():
                maps = self.network(torch.zeros(1, 3, 128, 128))
        except RuntimeError as error:
            raise InputError(
                f"backbone.name: `{name}` cannot be changed to output stride {self.strides[-1]} "
                f"({error}); try `dilate: true`, or another model"
            ) from None
        strides = tuple(128 // features.shape[-1] for features in maps)
        if len(maps) != 5 or strides != self.strides:
            raise InputError(
                f"backbone.name: `{name}` gives features at strides {strides}, expected five stages at "
                f"{self.strides}; try `dilate: true`, or another model"
            )

    def stages(self, images: Tensor) -> list[Tensor]:
        """Feature maps of all stages; see `Backbone.stages`."""
        return list(self.network(images))

    def freeze(self) -> None:
        """Take the modules that lead to the last frozen stage's feature map out of training."""
        if self.frozen_stages:
            modules = list(self.network.modules())
            for module in modules[1 : self._modules_until(self.frozen_stages - 1)]:
                for parameter in module.parameters(recurse=False):
                    parameter.requires_grad_(False)


def build_backbone(settings: BackboneSettings) -> Backbone:
    """A backbone of the given architecture, weights not loaded."""
    kind = ResNetBackbone if settings.name in RESNETS else TimmBackbone
    backbone = kind(settings)
    backbone.freeze()
    return backbone


def load_backbone(settings: BackboneSettings) -> Backbone:
    """A backbone with the weights that its settings name.

    Raises:
        InputError: The weights are not there or do not fit; nothing starts from random weights.
    """
    backbone = build_backbone(settings)
    if settings.file is None:
        tensors, source = imagenet_weights(settings.name)
    else:
        tensors, source = read_weights(settings.file), settings.file
    network = backbone.network if isinstance(backbone, TimmBackbone) else backbone
    load_exactly(network, tensors, source)
    return backbone
