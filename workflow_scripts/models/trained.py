"""Trained networks of methods, made ready for inference or for the training of another."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pydantic import ValidationError
from torch import nn

from workflow_scripts.doors.backbone import BackboneSettings
from workflow_scripts.doors.method import METHODS, LabelledImage, Method
from workflow_scripts.errors import InputError
from workflow_scripts.models.multi_scale import resized
from workflow_scripts.settings.base import validate
from workflow_scripts.storage.activation_maps import ActivationMaps
from workflow_scripts.storage.networks import load_network, read_description, read_tensors
from workflow_scripts.storage.shard_files import strided_size

# Beyond 1, what sums and divisions in float32 leave.
ROUNDING = 1e-5


def describe_trained(path: Path, kind: str, classes: Sequence[str]) -> dict[str, Any]:
    """Description of a trained network, checked against the dataset's classes.

    Raises:
        InputError: It is of another kind, or was trained on another number of classes.
    """
    description = read_description(path, kind)
    trained = description.get("classes", classes)
    if len(trained) != len(classes):
        raise InputError(
            f"{path}: was trained on {len(trained)} classes, the dataset has {len(classes)}"
            f" ({', '.join(classes[:5])} …); take the network and the classes of one run"
        )
    return description


@contextmanager
def described(path: Path) -> Iterator[None]:
    """Hold the reading of a network's description, which another version may have written.

    Raises:
        InputError: The description lacks something, or says what this version does not know.
    """
    try:
        yield
    except (KeyError, TypeError, ValidationError, InputError) as error:
        reason = f"no {error}" if isinstance(error, KeyError) else str(error).replace("\n", " ")
        raise InputError(
            f"{path}: its description is of another version of the workflow, or of a plug-in that is not "
            f"given ({reason:.200}); name the plug-in by `--plugins FILE`, use the version that wrote it, or "
            "train the network anew"
        ) from None


def described_backbone(description: Mapping[str, Any]) -> BackboneSettings:
    """Settings of a trained network's backbone, from its description."""
    return validate(BackboneSettings, description["backbone"], "its backbone")


def load_trained(
    path: Path, name: str, classes: Sequence[str], device: torch.device
) -> tuple[Method, Any, dict[str, Any]]:
    """A method with its trained network in evaluation mode, and the network's description.

    Args:
        path: model.safetensors.
        name: The method that the network must be of.
        classes: The dataset's classes.
        device: Where it will compute.

    Raises:
        InputError: `path` holds no network of this method, or one of another number of classes.
    """
    description = describe_trained(path, name, classes)
    with described(path):
        method = METHODS.get(name).described(description)
        network = method.build(described_backbone(description).build(), len(classes))
    load_network(path, network)
    return method, ready_for_inference(network, device), description


def activations_of(
    method: Method,
    network: Any,
    images: Sequence[LabelledImage],
    infer: Any,
    device: torch.device,
) -> list[np.ndarray | ActivationMaps]:
    """Activations of images of one size, in the form in which the method's shards hold them.

    Args:
        method: The method.
        network: Its trained network.
        images: At least one.
        infer: The method's settings of inference.
        device: Where to compute.

    Returns:
        Of each image maps of the method's kind, or float32 [k, ceil(H/4), ceil(W/4)].

    Raises:
        InputError: The method returned something else.
    """
    found = method.activations_together(network, images, infer, device)
    if len(found) != len(images):
        raise InputError(
            f"method `{method.name}`: `activations_together` returned {len(found)} activations of "
            f"{len(images)} images"
        )
    return [_checked(method, one, image) for one, image in zip(found, images, strict=True)]


def _checked(method: Method, found: Any, image: LabelledImage) -> np.ndarray | ActivationMaps:
    """Activations of one image, in the form of the method's shards."""
    kind = method.maps()
    if kind is not None:
        if not isinstance(found, kind):
            raise InputError(
                f"method `{method.name}`: activations are {type(found).__name__}, expected {kind.__name__}"
            )
        return found
    labels, size = len(image.labels), strided_size(*image.pixels.shape[:2])
    if (
        not isinstance(found, np.ndarray)
        or found.ndim != 3
        or len(found) != labels
        or not found.size
    ):
        shape = list(getattr(found, "shape", ()))
        raise InputError(
            f"method `{method.name}`: activations are {type(found).__name__} of shape {shape}; "
            f"expected an array of [{labels} (the image's labels), rows, columns]"
        )
    found = found.astype(np.float32)
    low, high = float(found.min()), float(found.max())
    if not (np.isfinite(found).all() and low >= 0 and high <= 1 + ROUNDING):
        raise InputError(
            f"method `{method.name}`: activations lie in {low:.3g}…{high:.3g}; expected numbers in 0…1"
        )
    return resized(found, *size)


def take_over(network: nn.Module, source: Path) -> None:
    """Put all tensors of a trained network into one that has tensors of the same names, and more.

    Raises:
        InputError: One has no place, or one of another shape; names the first few.
    """
    tensors, expected = read_tensors(source), network.state_dict()
    homeless = [
        f"{name} {tuple(tensor.shape)}"
        for name, tensor in tensors.items()
        if name not in expected or expected[name].shape != tensor.shape
    ]
    if homeless:
        raise InputError(
            f"{source}: {len(homeless)} tensor(s) have no place in the network that starts from it: "
            f"{', '.join(homeless[:5])}; take a source of the same backbone and classes"
        )
    network.load_state_dict({**expected, **tensors})


def ready_for_inference(network: Any, device: torch.device) -> Any:
    """The network in evaluation mode (dropout off) on its device, in the faster memory format."""
    ready: nn.Module = network.eval()
    return ready.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
