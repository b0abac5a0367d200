"""LSE-CAM, a method in one file: a classifier whose maps are pooled by log-sum-exp.

Pinheiro and Collobert, "From Image-level to Pixel-level Labeling with Convolutional Networks", CVPR 2015:
in the place of the mean over all pixels, which asks a class for the whole image, or the maximum, which asks
it for one pixel, log-sum-exp lies in between, as `sharpness` says.

    plugins: [docs/lse_cam.py]
    methods: [cam, lse_cam]
    train_lse_cam: {sharpness: 5}
"""

from typing import ClassVar

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import nn

from workflow_scripts.doors.method import InferSettings, Method, TrainSettings
from workflow_scripts.models.multi_scale import add_resized, maps_at_scales


class TrainLseSettings(TrainSettings):
    """The classifier; backbone and training are those of `TrainSettings`."""

    sharpness: float = Field(5.0, gt=0, description="0 would be the mean, infinity the maximum")


class LseNetwork(nn.Module):
    """A backbone, and a linear classifier of each pixel."""

    def __init__(self, backbone, classes, sharpness):
        super().__init__()
        self.backbone = backbone
        self.classifier = nn.Conv2d(backbone.channels, classes, 1)
        self.sharpness = sharpness

    def forward(self, images):
        """Logits of the labels: [B, 3, H, W] → [B, C]."""
        pixels = self.sharpness * self.classifier(self.backbone(images)).flatten(2).float()
        count = torch.tensor(float(pixels.shape[-1]))
        return (torch.logsumexp(pixels, dim=2) - count.log()) / self.sharpness


class LseCam(Method):
    """Class activation maps pooled by log-sum-exp."""

    name: ClassVar[str] = "lse_cam"
    Train: ClassVar[type[TrainLseSettings]] = TrainLseSettings
    Infer: ClassVar[type[InferSettings]] = InferSettings

    def build(self, backbone, classes):
        """The network, freshly initialised."""
        return LseNetwork(backbone, classes, self.settings.sharpness)

    def loss(self, network, batch, counts):
        """Binary cross-entropy of the labels, mean over classes and images."""
        losses = F.binary_cross_entropy_with_logits(
            network(batch["image"]), batch["labels"], reduction="none"
        )
        return losses.mean(dim=1).sum() / counts[0]

    def activations(self, network, image, infer, device):
        """Probability of each label at each pixel, over the largest of the image: [k, H, W] in 0…1."""
        labels = torch.tensor(image.labels, device=device) - 1

        def of_labels(views):
            return network.classifier(network.backbone(views))[:, labels]

        maps = maps_at_scales(image.pixels, infer.scales, network.backbone, of_labels, device)
        views = 2 * len(infer.scales)
        total = torch.sigmoid(add_resized(maps, *image.pixels.shape[:2]) / views)
        return (total / total.amax(dim=(1, 2), keepdim=True)).cpu().numpy()
