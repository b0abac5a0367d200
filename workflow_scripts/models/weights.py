"""Weights from files: read without running code, renamed from published checkpoints, loaded completely.

The published modules of CAM, AMN and IRN register the same tensors several times: the ResNet itself, its
stages, a list of the stages, and lists of what is new. All copies must agree.
"""

import logging
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from workflow_scripts.errors import InputError

logger = logging.getLogger(__name__)

Result = TypeVar("Result")
# Keys below which training scripts store a state dict, and what data parallelism and wrappers put in front
# of every name.
NESTS = ("state_dict", "model_state_dict", "model", "net", "network", "weights")
WRAPPERS = ("module.", "model.", "net.", "network.")
# Classification heads, which a backbone does not have.
HEADS = ("fc.", "classifier.", "head.", "head_dist.", "conv_head.", "_fc.", "_conv_head.")


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
    while isinstance(tensors, dict) and (inner := [key for key in NESTS if _nested(tensors, key)]):
        tensors = tensors[inner[0]]
    if not isinstance(tensors, dict):
        raise InputError(
            f"{path}: expected a state dict (tensors by name), found {type(tensors).__name__}"
        )
    if not tensors or not all(isinstance(t, Tensor) for t in tensors.values()):
        keys = ", ".join(map(repr, list(tensors)[:8])) or "no keys"
        raise InputError(
            f"{path}: expected a state dict (tensors by name), or one below a key of {', '.join(NESTS)}; "
            f"found {keys}; save the state dict alone"
        )
    while wrapper := next((one for one in WRAPPERS if _all_begin(tensors, one)), None):
        tensors = {name.removeprefix(wrapper): tensor for name, tensor in tensors.items()}
    return {name.removeprefix(WRAPPERS[0]): tensor for name, tensor in tensors.items()}


def _nested(values: Mapping[str, Any], key: str) -> bool:
    return isinstance(values.get(key), dict)


def _all_begin(tensors: Mapping[str, Tensor], start: str) -> bool:
    return all(name.startswith(start) for name in tensors)


def fetched(name: str, fetch: Callable[[], Result]) -> Result:
    """Published weights of a backbone, by a function that may download them.

    Raises:
        InputError: They cannot be had here; the message says how to get them.
    """
    logger.info("weights of %s: from the hub's cache, or else downloaded", name)
    try:
        return fetch()
    except (OSError, RuntimeError) as error:
        raise InputError(
            f"backbone.weights: the published weights of {name} could not be fetched "
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


SHOWN = 5


@dataclass(frozen=True)
class Published:
    """A kind of published checkpoint.

    Attributes:
        title: What it is called.
        signature: A tensor that only this kind has.
        names: (published beginning of a name, ours) pairs; the first one for each of ours is the one
            shown in messages.
        left_out: Pattern of published names that hold nothing learnt.
    """

    title: str
    signature: str
    names: tuple[tuple[str, str], ...]
    left_out: str = r"(?!)"


def _resnet(*stages: tuple[str, ...]) -> list[tuple[str, str]]:
    """The ResNet under its own name, as `stage1` …, and as a list of these."""
    names = [("resnet50.", "backbone.")]
    for number, children in enumerate(stages):
        for position, child in enumerate(children):
            names.append((f"stage{number + 1}.{position}.", f"backbone.{child}."))
            names.append((f"backbone.{number}.{position}.", f"backbone.{child}."))
    return names


def _branch(layer: str, every: str, ours: tuple[str, ...]) -> list[tuple[str, str]]:
    """Layers of an IRN branch, under their names and as a list: convolution 0, normalisation 1."""
    names = []
    for number, name in enumerate(ours):
        for prefix in (f"{layer}{number + 1}", f"{every}.{number}"):
            names += [(f"{prefix}.0.", f"{name}.conv."), (f"{prefix}.1.", f"{name}.norm.")]
    return names


_STEM = ("conv1", "bn1", "relu", "maxpool")
_FOUR_STAGES = _resnet((*_STEM, "layer1"), ("layer2",), ("layer3",), ("layer4",))
_FIVE_STAGES = _resnet(_STEM, ("layer1",), ("layer2",), ("layer3",), ("layer4",))
_EDGE = tuple(f"edge.stages.{number}" for number in range(5))

PUBLISHED = {
    "cam": Published(
        title="CAM",
        signature="classifier.weight",
        names=(*_FOUR_STAGES, ("classifier.", "classifier."), ("newly_added.0.", "classifier.")),
    ),
    "amn": Published(
        title="AMN",
        signature="label_enc.weight",
        names=(
            *_FOUR_STAGES,
            *(
                (f"classifier.1.c{number}.", f"classifier.branches.{number}.")
                for number in range(4)
            ),
            *((f"newly_added.0.1.c{n}.", f"classifier.branches.{n}.") for n in range(4)),
            ("label_enc.", "label_conditioning."),
            ("newly_added.1.", "label_conditioning."),
        ),
    ),
    "irn": Published(
        title="IRN",
        signature="fc_edge6.weight",
        names=(
            *_FIVE_STAGES,
            *_branch("fc_edge", "edge_layers", _EDGE),
            ("fc_edge6.", "edge.head."),
            ("edge_layers.5.", "edge.head."),
        ),
        # Indices of pixel pairs, and the branch of displacements, which only instances need.
        left_out=r"path_indices\d+|disp_target|ind_from|ind_to|(fc_dp\d|dp_layers|mean_shift)\..*",
    ),
}


def _listed(names: list[str]) -> str:
    return ", ".join(names[:SHOWN]) + (f" … ({len(names)} in all)" if len(names) > SHOWN else "")


def check_kind(kind: str, tensors: Mapping[str, Tensor], source: str) -> None:
    """Refuse a checkpoint of another kind.

    Raises:
        InputError: It lacks what this kind has and has what another one has; says which.
    """
    if PUBLISHED[kind].signature in tensors:
        return
    for other, published in PUBLISHED.items():
        if published.signature in tensors:
            raise InputError(
                f"{source}: this is a published {published.title} checkpoint (it has "
                f"{published.signature}), not {PUBLISHED[kind].title}; use `--kind {other}`, "
                "in a configuration another key of `checkpoints`"
            )


def rename(kind: str, tensors: Mapping[str, Tensor], source: str) -> dict[str, Tensor]:
    """Published tensors under our names, each once.

    Args:
        kind: cam, amn or irn.
        tensors: A published state dict, without the `module.` of data parallelism.
        source: Its name in messages.

    Raises:
        InputError: A name is unknown, or copies of one tensor differ; names them.
    """
    published = PUBLISHED[kind]
    renamed: dict[str, Tensor] = {}
    first_name: dict[str, str] = {}
    unknown = []
    for name, tensor in tensors.items():
        if re.fullmatch(published.left_out, name):
            continue
        ours = next((b + name[len(a) :] for a, b in published.names if name.startswith(a)), None)
        if ours is None:
            unknown.append(name)
        elif ours not in renamed:
            renamed[ours], first_name[ours] = tensor, name
        elif not torch.equal(renamed[ours], tensor):
            raise InputError(
                f"{source}: {first_name[ours]} and {name} are copies of one tensor in a published "
                f"{published.title} checkpoint, but differ here; the file is damaged or was edited"
            )
    if unknown:
        raise InputError(
            f"{source}: unknown tensors, which no published {published.title} checkpoint has: "
            f"{_listed(unknown)}"
        )
    return renamed


def fill(kind: str, network: nn.Module, renamed: Mapping[str, Tensor], source: str) -> None:
    """Put renamed tensors in the place of our network's (which may be on `meta`), all or none.

    Counters of batch normalisation may be absent (older versions of PyTorch did not write them).

    Raises:
        InputError: A tensor is missing, left over or of another shape; named as in the checkpoint.
    """
    expected = network.state_dict()

    def shown(ours: str) -> str:
        return next(a + ours[len(b) :] for a, b in PUBLISHED[kind].names if ours.startswith(b))

    missing = [
        shown(name)
        for name in expected
        if name not in renamed and not name.endswith("num_batches_tracked")
    ]
    extra = [shown(name) for name in renamed if name not in expected]
    reshaped = [
        f"{shown(name)} {tuple(renamed[name].shape)} instead of {tuple(tensor.shape)}"
        for name, tensor in expected.items()
        if name in renamed and renamed[name].shape != tensor.shape
    ]
    problems = {"missing": missing, "not part of the network": extra, "of another shape": reshaped}
    found = [f"{what}: {_listed(names)}" for what, names in problems.items() if names]
    if found:
        raise InputError(
            f"{source}: no complete published {PUBLISHED[kind].title} checkpoint of ResNet-50; tensors "
            + "; tensors ".join(found)
        )
    counters = {n: torch.tensor(0) for n in expected if n.endswith("num_batches_tracked")}
    network.load_state_dict({**counters, **renamed}, assign=True)
