"""A plug-in: a transformer of two blocks whose random weights are always the same."""

from typing import ClassVar

from workflow_scripts.backbones.timm_transformer import TimmTransformer


class TinyVit(TimmTransformer):
    """Stands for one that is published."""

    names: ClassVar[tuple[str, ...]] = ("tiny_vit",)

    name: str = "tiny_vit"

    def _network(self):
        from timm.models.vision_transformer import VisionTransformer

        return VisionTransformer(
            img_size=32, patch_size=8, embed_dim=24, depth=4, num_heads=2, num_classes=0,
            dynamic_img_size=True, dynamic_img_pad=True,
        )  # fmt: skip

    def published(self):
        import torch

        with torch.random.fork_rng():
            torch.manual_seed(0)
            tensors = self.build().weighted.state_dict()
        # Small weights attend to all cells alike, and activations spread over that are one value.
        for name, tensor in tensors.items():
            if name.endswith(("qkv.weight", "patch_embed.proj.weight")):
                tensor *= 30
        return tensors, "random weights"
