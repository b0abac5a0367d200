"""Vision transformers of timm (Dosovitskiy et al., 2021): DeiT, DINO, DINOv2, MAE, CLIP's image towers …"""

import sys
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import Field

from workflow_scripts.doors.backbone import IMAGENET_TERMS, BackboneSettings
from workflow_scripts.errors import InputError

if TYPE_CHECKING:
    from torch import Tensor

    from workflow_scripts.models.feature_maps import Backbone

LEVELS = 4
# What some networks of timm have behind the tokens: pooling by attention, normalisation of what is pooled.
POOLING = ("attn_pool", "fc_norm", "head")


class TimmTransformer(BackboneSettings):
    """A plain transformer on patches, for images of any size.

    Images are padded to whole patches on the right and at the bottom, positional embeddings resized to the
    image's grid (bicubic, as published). Its pyramid is four evenly spaced blocks, all at the stride of a
    patch, as timm's `forward_intermediates` gives them: with the final normalisation, but where a network
    has it behind the pooling (EVA-02). Class and register tokens are left out.
    """

    names: ClassVar[tuple[str, ...]] = (
        "vit_*",
        "deit_*",
        "deit3_*",
        "flexivit_*",
        "eva_*",
        "eva02_*",
    )
    bfloat16_pays: ClassVar[bool] = True
    freezing: ClassVar[tuple[str, ...]] = ("frozen_blocks",)

    name: str = Field("vit_small_patch14_dinov2", description="name of a transformer of timm")
    frozen_blocks: Annotated[int, Field(ge=0)] | Literal["all"] = Field(
        0,
        description="first blocks that do not train, the patch embedding with them; `all`: nothing does",
    )

    def build(self) -> "Backbone":
        """See `BackboneSettings`."""
        import timm

        from workflow_scripts.models.feature_maps import Level, PyramidBackbone

        network = self._network()
        depth = len(network.blocks)
        frozen = depth if self.frozen_blocks == "all" else self.frozen_blocks
        if frozen > depth:
            raise InputError(
                f"backbone.frozen_blocks: {self.name} has {depth} blocks, not {frozen}; `all` freezes them "
                f"all"
            )
        if frozen:
            network.requires_grad_(False)
        if 0 < frozen < depth:
            for module in (*network.blocks[frozen:], network.norm):
                module.requires_grad_(True)
        # These have no part in the maps, and processes that share a batch would wait for their gradients.
        for name in POOLING:
            if getattr(network, name, None) is not None:
                getattr(network, name).requires_grad_(False)
        blocks = [depth * (number + 1) // LEVELS - 1 for number in range(LEVELS)]
        configuration = timm.get_pretrained_cfg(self.name)
        return PyramidBackbone(
            network,
            [Level(network.embed_dim, network.patch_embed.feat_ratio(as_scalar=True))] * LEVELS,
            tuple(configuration.mean) if configuration else (0.5, 0.5, 0.5),
            tuple(configuration.std) if configuration else (0.5, 0.5, 0.5),
            partial(_intermediates, blocks=blocks),
            pads=True,
            attends=True,
        )

    def _network(self) -> Any:
        import timm

        try:
            return timm.create_model(
                self.name,
                pretrained=False,
                num_classes=0,
                dynamic_img_size=True,
                dynamic_img_pad=True,
            )
        except (RuntimeError, TypeError, ValueError, AssertionError) as error:
            raise InputError(
                f"backbone.name: timm has no transformer `{self.name}` for images of any size ({error}); "
                "`python -c 'import timm; print(timm.list_models(\"vit_*\"))'` lists the names"
            ) from None

    def published(self) -> "tuple[dict[str, Tensor], str]":
        """timm's own weights."""
        import timm

        from workflow_scripts.models.weights import fetched

        model: Any = fetched(
            self.name, lambda: timm.create_model(self.name, pretrained=True, num_classes=0)
        )
        return model.state_dict(), f"timm {self.name}"

    def translated(self, tensors: "dict[str, Tensor]", network: "Backbone") -> "dict[str, Tensor]":
        """Names of DeiT, DINO, DINOv2, CLIP and others as timm's; positional embeddings of its size."""
        model: Any = network.weighted
        # Each family of timm has its own: plain transformers, EVA and DINOv3.
        family: Any = sys.modules[type(model).__module__]
        renamed: dict[str, Tensor] = family.checkpoint_filter_fn(tensors, model)
        return renamed

    def licence(self) -> str:
        """See `BackboneSettings`."""
        return f"timm {self.name}: see the model's card; {IMAGENET_TERMS}"


def _intermediates(network: Any, images: "Tensor", blocks: list[int]) -> "list[Tensor]":
    """Normalised tokens of some blocks as maps [B, C, h, w]."""
    maps: list[Tensor] = network.forward_intermediates(
        images, indices=blocks, norm=True, output_fmt="NCHW", intermediates_only=True
    )
    return maps
