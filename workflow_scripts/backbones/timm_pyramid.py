"""Hierarchical networks of timm in four stages: ConvNeXt, Swin, PVT and others."""

import sys
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field

from workflow_scripts.backbones.timm_convolutional import flattened, modules_until
from workflow_scripts.doors.backbone import IMAGENET_TERMS, BackboneSettings
from workflow_scripts.errors import InputError

if TYPE_CHECKING:
    from torch import Tensor

    from workflow_scripts.models.feature_maps import Backbone

# Windows of a fixed size of image otherwise.
OF_ANY_SIZE = {"swin": {"strict_img_size": False}}
# Normalisations behind the last feature map.
BEHIND = ("norm.", "norm_pre.")


class TimmPyramid(BackboneSettings):
    """Feature maps of strides 4, 8, 16 and 32, for images of any size.

    Images are padded on the right and at the bottom to multiples of the last stride. The last map, of which
    CAM and AMN are made, is coarse: the decoder `mlp` joins them all, and larger `scales` of inference make
    up for it.
    """

    names: ClassVar[tuple[str, ...]] = (
        "convnext_*",
        "convnextv2_*",
        "swin_*",
        "swinv2_*",
        "pvt_v2_*",
        "caformer_*",
        "convformer_*",
        "focalnet_*",
    )
    bfloat16_pays: ClassVar[bool] = True
    freezing: ClassVar[tuple[str, ...]] = ("frozen_stages",)

    name: str = Field("convnext_tiny", description="name of such a model of timm")
    frozen_stages: int = Field(
        0, ge=0, le=4, description="first stages that do not train; stage 1 has the stem"
    )

    def build(self) -> "Backbone":
        """See `BackboneSettings`."""
        import timm

        from workflow_scripts.models.feature_maps import Level, PyramidBackbone

        network = self._network(features_only=True)
        strides = tuple(network.feature_info.reduction())
        if self.frozen_stages == len(strides):
            network.requires_grad_(False)
        elif self.frozen_stages:
            for module in list(network.modules())[
                1 : modules_until(network, self.frozen_stages - 1)
            ]:
                for parameter in module.parameters(recurse=False):
                    parameter.requires_grad_(False)
        configuration = timm.get_pretrained_cfg(self.name)
        statistics: dict[str, Any] = {}
        if configuration:
            statistics = {"mean": tuple(configuration.mean), "std": tuple(configuration.std)}
        channels = network.feature_info.channels()
        levels = [Level(*level) for level in zip(channels, strides, strict=True)]
        return PyramidBackbone(
            network, levels, maps=partial(_maps, strides=strides), pads=True, **statistics
        )

    def _network(self, **options: Any) -> Any:
        import timm

        family = next(
            (options for start, options in OF_ANY_SIZE.items() if self.name.startswith(start)), {}
        )
        try:
            return timm.create_model(self.name, **{"pretrained": False, **family, **options})
        except (RuntimeError, NotImplementedError, TypeError, ValueError, AssertionError) as error:
            raise InputError(
                f"backbone.name: timm has no `{self.name}` with feature maps ({error}); "
                "`python -c 'import timm; print(timm.list_models(\"convnext*\"))'` lists the names"
            ) from None

    def published(self) -> "tuple[dict[str, Tensor], str]":
        """timm's own weights."""
        from workflow_scripts.models.weights import fetched

        model: Any = fetched(self.name, lambda: self._network(features_only=True, pretrained=True))
        return model.state_dict(), f"timm {self.name}"

    def translated(self, tensors: "dict[str, Tensor]", network: "Backbone") -> "dict[str, Tensor]":
        """Names of the original code as timm's, and those as timm's networks of feature maps have them."""
        full = self._network(num_classes=0)
        family: Any = sys.modules[type(full).__module__]
        if hasattr(family, "checkpoint_filter_fn"):
            tensors = family.checkpoint_filter_fn(tensors, full)
        kept = {name: tensor for name, tensor in tensors.items() if not name.startswith(BEHIND)}
        return flattened(kept, network.weighted.state_dict())

    def licence(self) -> str:
        """See `BackboneSettings`."""
        return f"timm {self.name}: see the model's card; {IMAGENET_TERMS}"


def _maps(network: Any, images: "Tensor", strides: tuple[int, ...]) -> "list[Tensor]":
    """Feature maps [B, C, ceil(H / stride), ceil(W / stride)] of padded images."""
    import torch.nn.functional as F

    height, width = images.shape[-2:]
    maps = network(F.pad(images, (0, -width % strides[-1], 0, -height % strides[-1])))
    if str(network.output_fmt).endswith("NHWC"):
        maps = [one.permute(0, 3, 1, 2) for one in maps]
    return [
        one[..., : -(-height // stride), : -(-width // stride)]
        for one, stride in zip(maps, strides, strict=True)
    ]
