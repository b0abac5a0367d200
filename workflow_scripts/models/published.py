"""Names of the tensors in published checkpoints of CAM, AMN and IRN, and ours for them.

The published modules register the same tensors several times: the ResNet itself, its stages, a list of
the stages, and lists of what is new. All copies must agree.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from workflow_scripts.errors import InputError

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
