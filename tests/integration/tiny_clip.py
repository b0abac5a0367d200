"""A plug-in: the image tower of a CLIP of two blocks, which open_clip knows by a file beside this one."""

from pathlib import Path
from typing import ClassVar

from workflow_scripts.backbones.timm_transformer import TimmTransformer

WIDTH, SIDE, PATCH, LAYERS, HEADS = 32, 32, 8, 2, 2
NAME = "tiny_recipe_clip"
CONFIG = {
    "embed_dim": 16,
    "vision_cfg": {
        "image_size": SIDE, "layers": LAYERS, "width": WIDTH, "head_width": WIDTH // HEADS,
        "patch_size": PATCH,
    },
    "text_cfg": {
        "context_length": 77, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 1,
    },
}  # fmt: skip


class TinyClip(TimmTransformer):
    """Stands for one that is published."""

    names: ClassVar[tuple[str, ...]] = (NAME,)

    name: str = NAME

    def _network(self):
        import open_clip
        from timm.models.vision_transformer import VisionTransformer

        # Whoever builds the tower may embed texts too.
        open_clip.add_model_config(Path(__file__).with_name(f"{NAME}.json"))
        return VisionTransformer(
            img_size=SIDE, patch_size=PATCH, embed_dim=WIDTH, depth=LAYERS, num_heads=HEADS,
            pre_norm=True, num_classes=0, dynamic_img_size=True, dynamic_img_pad=True,
        )  # fmt: skip
