"""Any convolutional model of timm whose features come in five stages."""

from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field

from workflow_scripts.doors.backbone import IMAGENET_TERMS, StagedSettings
from workflow_scripts.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

    from workflow_scripts.models.feature_maps import Backbone

SIDE = 128


class TimmConvolutional(StagedSettings):
    """timm's `features_only` models.

    Without dilation, an output stride below the network's own is had by removing the strides behind it, as
    the paper does with ResNet-50.
    """

    names: ClassVar[tuple[str, ...]] = ("*",)

    name: str = Field("resnet34", description="name of a convolutional model of timm")

    @property
    def timm_name(self) -> str:
        """What timm calls the model."""
        return self.name

    def build(self) -> "Backbone":
        """See `BackboneSettings`."""
        import timm

        from workflow_scripts.models.feature_maps import Level, PyramidBackbone

        network = self._network()
        configuration = timm.get_pretrained_cfg(self.timm_name)
        statistics: dict[str, Any] = {}
        if configuration:
            statistics = {"mean": tuple(configuration.mean), "std": tuple(configuration.std)}
        strides = self._set_stride(network)
        self._check_strides(network, strides)
        if self.frozen_stages:
            modules = list(network.modules())
            for module in modules[1 : modules_until(network, self.frozen_stages - 1)]:
                for parameter in module.parameters(recurse=False):
                    parameter.requires_grad_(False)
        levels = zip(network.feature_info.channels(), strides, strict=True)
        return PyramidBackbone(network, [Level(*level) for level in levels], **statistics)

    def _network(self) -> Any:
        import timm

        stride = self.output_stride
        try:
            return timm.create_model(
                self.timm_name,
                features_only=True,
                output_stride=stride if self.dilate else 32,
                pretrained=False,
            )
        except (RuntimeError, NotImplementedError, TypeError, ValueError, AssertionError) as error:
            raise InputError(
                f"backbone.name: timm has no convolutional model `{self.timm_name}` that gives features at "
                f"output stride {stride} ({error}); "
                "`python -c 'import timm; print(timm.list_models())'` lists the names"
            ) from None

    def _set_stride(self, network: Any) -> tuple[int, ...]:
        """Remove the strides behind the output stride; returns those of the stages."""
        stride, strides = self.output_stride, tuple(network.feature_info.reduction())
        if self.dilate or stride not in strides:
            return strides
        last = max(i for i, reduction in enumerate(strides) if reduction <= stride)
        behind = list(dict(network.named_modules()).values())[modules_until(network, last) :]
        for module in behind:
            if hasattr(module, "stride"):
                module.stride = (1, 1)
        return tuple(min(reduction, stride) for reduction in strides)

    def _check_strides(self, network: Any, expected: tuple[int, ...]) -> None:
        import torch

        try:
            with torch.no_grad():
                maps = network.eval()(torch.zeros(1, 3, SIDE, SIDE))
                network.train()
        except RuntimeError as error:
            raise InputError(
                f"backbone.name: `{self.timm_name}` cannot be changed to output stride {expected[-1]} "
                f"({error}); try `dilate: true`, or another model"
            ) from None
        strides = tuple(SIDE // features.shape[-1] for features in maps)
        if len(maps) != 5 or strides != expected:
            raise InputError(
                f"backbone.name: `{self.timm_name}` gives features at strides {strides}, expected five "
                f"stages at {expected}; try `dilate: true`, or another model"
            )

    def published(self) -> "tuple[dict[str, Tensor], str]":
        """timm's own weights."""
        import timm

        from workflow_scripts.models.weights import fetched

        model: Any = fetched(self.name, lambda: timm.create_model(self.timm_name, pretrained=True))
        tensors = flattened(model.state_dict(), self._network().state_dict())
        return tensors, f"timm {self.timm_name}"

    def translated(self, tensors: "dict[str, Tensor]", network: "Backbone") -> "dict[str, Tensor]":
        """Names of timm's models as its networks of feature maps have them."""
        return flattened(tensors, network.weighted.state_dict())

    def licence(self) -> str:
        """See `BackboneSettings`."""
        return f"timm {self.timm_name}: see the model's card; {IMAGENET_TERMS}"


def modules_until(network: Any, stage: int) -> int:
    """How many modules, in the order of definition, lead to the feature map of a stage from 0."""
    last = network.feature_info.module_name(stage)
    # Networks of feature maps may have taken the modules out of their folders: `stages_0`.
    places = (last, last.replace(".", "_"))
    return 1 + max(
        number
        for number, name in enumerate(dict(network.named_modules()))
        if name in places or name.startswith(tuple(f"{place}." for place in places))
    )


def flattened(
    tensors: "dict[str, Tensor]", expected: "Mapping[str, Tensor]"
) -> "dict[str, Tensor]":
    """Tensors under the names that a network of feature maps has: `stages_0.…` for `stages.0.…`."""

    def place(name: str) -> str:
        parts = name.split(".")
        joined = ("_".join(parts[:n]) + "." + ".".join(parts[n:]) for n in range(2, len(parts)))
        return name if name in expected else next((one for one in joined if one in expected), name)

    return {place(name): tensor for name, tensor in tensors.items()}
