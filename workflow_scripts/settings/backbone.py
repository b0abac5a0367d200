"""Settings of the network that extracts features."""

from pydantic import Field

from workflow_scripts.settings.base import Settings

IMAGENET = "imagenet"


class BackboneSettings(Settings):
    """Which network, and the weights it starts from."""

    name: str = Field(
        "efficientnet_lite0",
        description="efficientnet_lite0, resnet50, resnet101, or any convolutional timm model",
    )
    weights: str = Field(
        IMAGENET,
        description="`imagenet`, or the path of a file of weights (safetensors, or a state dict)",
    )
    frozen_stages: int = Field(
        1, ge=0, le=5, description="first stages that do not train; stage 1 is the stem"
    )
    output_stride: int = Field(16, ge=8, le=32, description="input pixels per feature pixel")
    dilate: bool = Field(
        False, description="replace the strides that are removed by dilation (DeepLab)"
    )

    @property
    def file(self) -> str | None:
        """Path of the file of weights; None where the name of published ones is given."""
        return None if self.weights == IMAGENET else self.weights
