"""torch.compile, where the configuration asks for it."""

import torch
from torch import nn

from workflow_scripts.errors import InputError


def compile_network(network: nn.Module, device: torch.device) -> None:
    """Let a network be compiled at its first step, in place: its tensors keep their names.

    Raises:
        InputError: Nothing can be compiled here.
    """
    probe = nn.ReLU()
    probe.compile()
    try:
        probe(torch.zeros(1, device=device))
    except Exception as error:  # of any kind: which one depends on the backend and on what it lacks
        reason = " ".join(str(error).split()) or type(error).__name__
        raise InputError(
            f"training.compile: torch.compile does not work here ({reason:.200}). It needs a C++"
            " compiler, and Triton on a GPU: install it, or leave `compile` out."
        ) from error
    network.compile()
