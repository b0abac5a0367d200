"""Features of square views, computed once, in the place of a backbone that does not learn."""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from workflow_scripts.errors import InputError
from workflow_scripts.models.feature_maps import Backbone
from workflow_scripts.models.views import normalised, resize, upload
from workflow_scripts.settings.training import FeatureSettings
from workflow_scripts.storage.feature_shards import FeatureShape


def feature_shape(backbone: Backbone, settings: FeatureSettings) -> FeatureShape:
    """What is stored of every image: its views' sides are multiples of the backbone's stride."""
    cells = tuple(
        max(1, round(settings.side * scale / backbone.stride)) for scale in settings.scales
    )
    return FeatureShape(backbone.channels, cells, 2 if settings.mirror else 1)


def about_features(backbone: str, settings: FeatureSettings) -> dict[str, Any]:
    """What a shard says that its features are of (JSON): the backbone's name, and its views."""
    return {"backbone": backbone, "side": settings.side, "scales": list(settings.scales)}


@torch.inference_mode()
def features_of(
    image: np.ndarray, backbone: Backbone, shape: FeatureShape, device: torch.device
) -> list[np.ndarray]:
    """Features of the views of an image uint8 [H, W, 3]: float32 [views, C, n, n] of each scale."""
    pixels = upload([image], device)
    found = []
    for cells in shape.cells:
        side = cells * backbone.stride
        view = normalised(resize(pixels, side, side), backbone.mean, backbone.std)
        batch = torch.cat([view, view.flip(-1)][: shape.views])
        features = backbone(batch.contiguous(memory_format=torch.channels_last))
        found.append(features.float().cpu().numpy())
    return found


class StoredFeatures(Backbone):
    """Stands for a backbone in training: what it is given as images are features already.

    The tensors of the backbone are not its own; the trained network is given the backbone itself.
    """

    def __init__(self, backbone: Backbone) -> None:
        super().__init__()
        self.levels, self.mean, self.std = backbone.levels, backbone.mean, backbone.std
        self.pads = backbone.pads

    def pyramid(self, images: Tensor) -> list[Tensor]:
        """There is no pyramid.

        Raises:
            InputError: Always.
        """
        raise InputError(
            "training.features.cache: this network reads several feature maps of its backbone, and the last "
            "one alone is stored; give the decoder `levels: 1`, or leave `cache` out"
        )

    def forward(self, images: Tensor) -> Tensor:
        """The features themselves, [B, C, n, n]."""
        return images
