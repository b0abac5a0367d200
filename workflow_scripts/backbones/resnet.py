"""torchvision's ResNets (He et al., 2016), V1.5: the stride sits in the 3×3 convolution."""

from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from workflow_scripts.doors.backbone import IMAGENET_TERMS, StagedSettings
from workflow_scripts.errors import InputError

if TYPE_CHECKING:
    from torch import Tensor

    from workflow_scripts.models.feature_maps import Backbone

STEM = ("conv1", "bn1", "relu", "maxpool")
LAYERS = ("layer1", "layer2", "layer3", "layer4")
CHANNELS = (64, 256, 512, 1024, 2048)


class ResNet(StagedSettings):
    """A ResNet under torchvision's own names of tensors, in five stages.

    The paper's output stride of 16 is the last stage at stride 1 without dilation; DeepLab's 8 is the
    last two stages at stride 1, dilated by 2 and 4.
    """

    names: ClassVar[tuple[str, ...]] = ("resnet50", "resnet101")
    bfloat16_pays: ClassVar[bool] = True

    name: str = Field("resnet50", description="resnet50 or resnet101")

    def build(self) -> "Backbone":
        """See `BackboneSettings`."""
        from torchvision.models import get_model

        from workflow_scripts.models.feature_maps import Level, StagedBackbone

        stride_one = {32: (False, False), 16: (False, True), 8: (True, True)}.get(
            self.output_stride
        )
        if stride_one is None:
            raise InputError(
                f"backbone.output_stride: {self.name} can give 8, 16 or 32, not {self.output_stride}"
            )
        dilated = [False, *stride_one] if self.dilate else [False, False, False]
        network = get_model(self.name, weights=None, replace_stride_with_dilation=dilated)
        stride, strides = 8, [4, 4, 8]
        for layer, removed in zip((network.layer3, network.layer4), stride_one, strict=True):
            if removed:
                layer[0].conv2.stride = layer[0].downsample[0].stride = (1, 1)
            else:
                stride *= 2
            strides.append(stride)
        return StagedBackbone(
            {name: network.get_submodule(name) for name in (*STEM, *LAYERS)},
            [STEM, *((layer,) for layer in LAYERS)],
            [Level(*level) for level in zip(CHANNELS, strides, strict=True)],
            self.frozen_stages,
        )

    def published(self) -> "tuple[dict[str, Tensor], str]":
        """The V1 weights, from which the paper starts."""
        from torchvision.models import get_model_weights

        from workflow_scripts.models.weights import fetched

        weights = get_model_weights(self.name)["IMAGENET1K_V1"]
        return fetched(
            self.name, lambda: weights.get_state_dict(progress=True, check_hash=True)
        ), weights.url

    def licence(self) -> str:
        """See `BackboneSettings`."""
        return f"torchvision IMAGENET1K_V1 (BSD-3-Clause); {IMAGENET_TERMS}"
