"""The door of backbones: networks that turn images into feature maps.

An entry is a file with a class derived from `BackboneSettings`: its fields are what a configuration can
say below `backbone:`, its `names` which values of `name` it answers to, and `build` makes the network.
`models/feature_maps.py` has the network's side, and bases for the usual kinds.
"""

import logging
from abc import abstractmethod
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from workflow_scripts.doors.door import Door, place_of
from workflow_scripts.errors import InputError
from workflow_scripts.settings.base import Choice

logger = logging.getLogger(__name__)

if TYPE_CHECKING:
    from torch import Tensor

    from workflow_scripts.models.feature_maps import Backbone

IMAGENET = "imagenet"
# Beside the licence that a publisher states, for model.json.
IMAGENET_TERMS = (
    "learnt on ImageNet, whose terms of access allow non-commercial research and teaching"
)


class BackboneSettings(Choice):
    """Which network extracts features, and the weights it starts from.

    Attributes:
        names: Values of `name` that an entry answers to; `*` and `?` stand for any letters, and the more
            exact name wins.
        bfloat16_pays: Whether `precision: auto` takes bfloat16 on CPUs that multiply matrices in it: dense
            convolutions and products gain, depthwise convolutions lose.
        freezing: Names of the fields that say what does not train, and nothing of what it computes.
    """

    tag: ClassVar[str] = "name"
    names: ClassVar[tuple[str, ...]] = ()
    bfloat16_pays: ClassVar[bool] = False
    freezing: ClassVar[tuple[str, ...]] = ()

    name: str = Field(
        "efficientnet_lite0",
        description="efficientnet_lite0, resnet50, resnet101, any convolutional or transformer model of "
        "timm, or that of a plug-in",
    )
    weights: str = Field(
        IMAGENET,
        description="`imagenet`, or the path of a file of weights (safetensors, or a state dict)",
    )

    @classmethod
    def door(cls) -> "Door[BackboneSettings]":
        """The door of backbones."""
        return BACKBONES

    @property
    def file(self) -> str | None:
        """Path of the file of weights; None where the name of published ones is given."""
        return None if self.weights == IMAGENET else self.weights

    @abstractmethod
    def build(self) -> "Backbone":
        """The network with random weights; what does not train is frozen.

        Raises:
            InputError: There is no such network, or it cannot be what the settings say.
        """

    def published(self) -> "tuple[dict[str, Tensor], str]":
        """Weights learnt on ImageNet, under the names that `build`'s network has, and where they are from.

        Raises:
            InputError: They cannot be had here; the message says how to get them.
        """
        raise InputError(
            f"backbone.weights: there are no published weights of {self.name}; give a file: "
            "`backbone: {weights: /path/to/file}`"
        )

    def translated(self, tensors: "dict[str, Tensor]", network: "Backbone") -> "dict[str, Tensor]":
        """Tensors of a file of weights, renamed to the names of `build`'s network where they differ."""
        return tensors

    def licence(self) -> str:
        """Origin and licence of the published weights, one line for model.json."""
        return f"{self.name}: its licence is not known here"

    @property
    def licence_of_weights(self) -> str:
        """The same for the weights that the network starts from."""
        if self.file is not None:
            return f"file {self.weights}, given by the user; its licence is not known here"
        return self.licence()


class StagedSettings(BackboneSettings):
    """The same for convolutional networks of five stages, whose last strides can be removed."""

    freezing: ClassVar[tuple[str, ...]] = ("frozen_stages",)

    frozen_stages: int = Field(
        1, ge=0, le=5, description="first stages that do not train; stage 1 is the stem"
    )
    output_stride: int = Field(16, ge=8, le=32, description="input pixels per feature pixel")
    dilate: bool = Field(
        False, description="replace the strides that are removed by dilation (DeepLab)"
    )


class _BackboneDoor(Door[BackboneSettings]):
    """Backbones, which answer to patterns of names."""

    def get(self, name: str) -> type[BackboneSettings]:
        """The entry whose pattern fits a name most exactly.

        An installed package that cannot be imported is passed over where another entry fits.
        """
        fitting: list[tuple[bool, int, type[BackboneSettings]]] = []
        entries, broken = self._candidates()
        for entry in entries:
            for pattern in self.names_of(entry):
                if fnmatchcase(name, pattern):
                    exact = pattern == name
                    fitting.append((exact, len(pattern), entry))
        if name in broken or (broken and not fitting):
            raise broken.get(name, next(iter(broken.values())))
        for error in broken.values():
            logger.warning("passed over: %s", error)
        if fitting:
            return max(fitting, key=lambda one: one[:2])[2]
        return super().get(name)

    def add(self, entry: type[BackboneSettings]) -> None:
        """Take the entry of a plug-in, whose names no other entry may have."""
        for name in self.names_of(entry):
            others = (other for other in self.every() if name in self.names_of(other))
            if other := next(others, None):
                raise InputError(
                    f"{place_of(entry)}: the name `{name}` is taken by {other.__name__}; choose another"
                )
        super().add(entry)

    def _candidates(self) -> tuple[list[type[BackboneSettings]], dict[str, InputError]]:
        """All entries, and what is wrong with installed ones that cannot be imported."""
        installed: list[type[BackboneSettings]] = []
        broken: dict[str, InputError] = {}
        for name in self._installed():
            try:
                installed.append(super().get(name))
            except InputError as error:
                broken[name] = error
        return [*dict.fromkeys(self._plugged.values()), *installed, *self.every()], broken


BACKBONES = _BackboneDoor("backbone", "workflow_scripts.backbones", BackboneSettings)
