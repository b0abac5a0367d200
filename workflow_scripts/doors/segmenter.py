"""The door of segmenters: networks that label every pixel, trained on masks.

An entry is a file with a class derived from `SegmenterSettings`: its fields are what a configuration can
say below `train_segmentation:`, `segmenter` is its name there, and `build` makes the network.
"""

from abc import abstractmethod
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from workflow_scripts.doors.backbone import BackboneSettings
from workflow_scripts.doors.door import Door
from workflow_scripts.settings.base import Choice
from workflow_scripts.settings.training import TrainingSettings

if TYPE_CHECKING:
    from torch import Tensor, nn

    from workflow_scripts.models.feature_maps import Backbone


class SegmenterSettings(Choice):
    """Which segmentation network is trained, on which backbone, and how.

    Attributes:
        name: Value of `segmenter` by which a configuration asks for it.
        title: What papers call it, for descriptions of trained networks.
    """

    tag: ClassVar[str] = "segmenter"
    name: ClassVar[str]
    title: ClassVar[str] = ""

    segmenter: str = "deeplab_v2"
    backbone: BackboneSettings
    training: TrainingSettings = TrainingSettings()

    @classmethod
    def door(cls) -> "Door[SegmenterSettings]":
        """The door of segmenters."""
        return SEGMENTERS

    @property
    def reads_pyramid(self) -> bool:
        """Whether the network reads more of its backbone than the last map, which alone can be stored."""
        return False

    @abstractmethod
    def build(self, backbone: "Backbone", classes: int) -> "nn.Module":
        """The network, freshly initialised: images [B, 3, H, W] → logits [B, classes + 1, h, w].

        Logits are of background and classes, at any resolution: they are enlarged bilinearly. The part that
        learns at the backbone's rate is its attribute `backbone`; all else is new layers.
        """

    def loss(self, logits: "Tensor", masks: "Tensor", count: "Tensor") -> "Tensor":
        """Loss of a part of a batch, so that parts add up; by default cross-entropy at the masks' size.

        Args:
            logits: [B, C + 1, h, w].
            masks: int64 [B, H, W], 255 is ignored.
            count: Valid pixels of the whole batch, of which this may be a part.
        """
        from workflow_scripts.models.segmentation import segmentation_loss

        return segmentation_loss(logits, masks, count)

    def described(self) -> dict[str, Any]:
        """What rebuilds the network beside backbone and classes."""
        values = self.model_dump(mode="json")
        return {key: value for key, value in values.items() if key not in ("training", "backbone")}


SEGMENTERS: Door[SegmenterSettings] = Door(
    "segmenter", "workflow_scripts.segmenters", SegmenterSettings
)


def described_segmenter(description: Mapping[str, Any]) -> SegmenterSettings:
    """Settings of a trained network, from its description; earlier versions trained DeepLab-v2 alone."""
    entry = SEGMENTERS.get(description.get("segmenter", "deeplab_v2"))
    known = {k: v for k, v in description.items() if k in entry.model_fields and k != "training"}
    return entry.model_validate(known)
