"""Settings of what was made elsewhere: activations of another method, and trained networks."""

from typing import Annotated, Literal

from pydantic import ConfigDict, Field

from workflow_scripts.settings.base import Settings


class ImportActivationsSettings(Settings):
    """How another method's activations become values in 0…1."""

    normalise: Literal["none", "maximum"] = Field(
        "none",
        description="none: values must lie in 0…1 already; maximum: negative values become 0 and each "
        "class of an image is divided by its maximum, as class activation maps are",
    )


BOUNDARY = "boundary"


class CheckpointSettings(Settings):
    """Trained networks that are imported instead of being trained, the same for every trial.

    Each is a file: a published state dict (ResNet-50), or the model.safetensors of an earlier run. The
    network, its dilations and the like are the file's; settings of its training do not count. The name of
    each method, and of each of `variants`, is a key.
    """

    model_config = ConfigDict(extra="allow")
    __pydantic_extra__: dict[str, Annotated[str, Field(min_length=1)] | None]

    boundary: dict[str, str] = Field(
        {},
        description="files of boundary networks (IRN): method whose activations they spread → file",
    )

    @property
    def networks(self) -> dict[str, str]:
        """File of each method's network that is imported."""
        given = self.__pydantic_extra__ or {}
        return {method: file for method, file in given.items() if file}

    @property
    def files(self) -> dict[str, str]:
        """All files, by the network's folder in a trial: a method's name, or with "/boundary" behind it."""
        below = {f"{method}/{BOUNDARY}": file for method, file in self.boundary.items()}
        return {**self.networks, **below}


def checkpoint_key(network: str) -> str:
    """Key of the configuration that names a network's file, for messages.

    Args:
        network: Its folder in a trial, see `CheckpointSettings.files`.
    """
    method, _, boundary = network.partition("/")
    return f"checkpoints.{boundary}.{method}" if boundary else f"checkpoints.{method}"
