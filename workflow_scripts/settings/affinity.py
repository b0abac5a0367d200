"""Settings of the affinity over which activations are spread."""

from typing import Literal

from pydantic import Field

from workflow_scripts.settings.base import Settings


class AffinitySettings(Settings):
    """Which cells of an image belong together; defaults are CLIP-ES's on VOC 2012."""

    source: Literal["attention", "features", "none"] = Field(
        "attention",
        description="`attention`: the mean attention of a transformer's last blocks, for networks without "
        "attention as `features`; `features`: likeness of the features; `none`: activations stay",
    )
    blocks: int = Field(8, ge=1, description="last blocks whose attention is averaged")
    box: float = Field(
        0.4,
        ge=0,
        lt=1,
        description="activations come from the boxes around what exceeds this share of their maximum "
        "(CLIP-ES: 0.4 on VOC 2012, 0.7 on COCO 2014); 0 takes them all",
    )
    temperature: float = Field(
        0.2, gt=0, description="of the softmax over the cosines, for `features`"
    )
