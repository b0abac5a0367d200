"""Where weights come from, and how they are put into a network: completely or not at all."""

from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from workflow_scripts.errors import InputError

Result = TypeVar("Result")
# Classification heads, which a backbone does not have.
HEADS = ("fc.", "classifier.", "head.", "conv_head.", "_fc.", "_conv_head.")


def read_weights(path: str | Path) -> dict[str, Tensor]:
    """Tensors of a safetensors file, or of a PyTorch state dict (read without unpickling code).

    Raises:
        InputError: There is no such file, or it holds no state dict.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"{path}: no such file of weights; give the path of a local file")
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        tensors = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise InputError(
            f"{path}: not a readable file of weights ({type(error).__name__}: {error!s:.200}); expected "
            "safetensors or a PyTorch state dict"
            if not isinstance(error, SafetensorError)
            else f"{path}: damaged safetensors file ({error}); copy it again"
        ) from None
    for key in ("state_dict", "model"):
        if isinstance(tensors, dict) and isinstance(tensors.get(key), dict):
            tensors = tensors[key]
    if not isinstance(tensors, dict) or not all(isinstance(t, Tensor) for t in tensors.values()):
        raise InputError(f"{path}: expected a state dict (names of tensors), found something else")
    return {name.removeprefix("module."): tensor for name, tensor in tensors.items()}


def fetched(name: str, fetch: Callable[[], Result]) -> Result:
    """Published weights of a backbone, by a function that may download them.

    Raises:
        InputError: They cannot be had here; the message says how to get them.
    """
    try:
        return fetch()
    except (OSError, RuntimeError) as error:
        raise InputError(
            f"backbone.weights: the ImageNet weights of {name} could not be fetched "
            f"({type(error).__name__}: {error}). On a machine without internet, download them elsewhere "
            "and give the file: `backbone: {weights: /path/to/file}`"
        ) from None


def load_exactly(network: nn.Module, tensors: dict[str, Tensor], source: str) -> None:
    """Fill every tensor of a network; what only a classification head needs is left over.

    Raises:
        InputError: A tensor is missing, left over or of another shape; names the first few.
    """
    expected = network.state_dict()
    counters = {name for name in expected if name.endswith("num_batches_tracked")}
    missing = [name for name in expected if name not in tensors and name not in counters]
    extra = [name for name in tensors if name not in expected and not name.startswith(HEADS)]
    # EfficientNets end in a 1×1 convolution with its own normalisation before the classifier.
    extra = [name for name in extra if not name.startswith("bn2.")]
    reshaped = [
        f"{name} {tuple(tensors[name].shape)} instead of {tuple(tensor.shape)}"
        for name, tensor in expected.items()
        if name in tensors and tensors[name].shape != tensor.shape
    ]
    for problem, names in (
        ("missing", missing),
        ("unknown", extra),
        ("of another shape", reshaped),
    ):
        if names:
            shown = ", ".join(names[:5]) + (" …" if len(names) > 5 else "")
            raise InputError(
                f"{source}: these weights do not fit the network: {len(names)} tensor(s) {problem}: "
                f"{shown}"
            )
    network.load_state_dict({**expected, **{n: t for n, t in tensors.items() if n in expected}})
