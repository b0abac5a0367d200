"""Memory format, arithmetic and compilation, by network and device.

The rule of `auto` is fixed, not measured at run time: two runs of one seed must take the same path on
machines of one kind. It was measured, and `make bench` shows what comes of it. bfloat16 pays on CPUs that
multiply matrices in it (AMX, ARM's BFMMLA). Where there are instructions for vectors alone (AVX-512 BF16),
torch 2.14 took 1.4 to 1.8 times as long as in float32, both channels_last, to infer with ResNet-50,
ConvNeXt-T and ViT-S/14 and to train them. Without any, bfloat16 is emulated: ResNet-50 took 7 times as long
to infer and 10 times as long to train. EfficientNet, of depthwise convolutions, is slower in it everywhere.
"""

import logging
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import nn

from workflow_scripts.errors import InputError
from workflow_scripts.models.trained import described_backbone

logger = logging.getLogger(__name__)

# Names of torch.cpu.get_capabilities: x86 with AMX, ARM.
BFLOAT16_MATRICES = ("amx_bf16", "bf16")


def _multiplies_bfloat16() -> bool:
    """Whether this CPU has instructions that multiply matrices in bfloat16."""
    capabilities = torch.cpu.get_capabilities()
    return any(capabilities.get(name, False) for name in BFLOAT16_MATRICES)


def choose_dtype(precision: str, bfloat16_pays: bool, device: torch.device) -> torch.dtype:
    """Arithmetic of the convolutions for `auto`, or what was asked for.

    Args:
        precision: One of the settings' words.
        bfloat16_pays: Whether the network gains by it on a CPU (see `BackboneSettings`).
        device: Where it computes.
    """
    if precision != "auto":
        chosen: torch.dtype = getattr(torch, "float32" if precision == "tf32" else precision)
        return chosen
    if device.type == "cuda":
        # Older GPUs emulate bfloat16, slowly.
        has_bfloat16 = torch.cuda.is_bf16_supported(including_emulation=False)
        return torch.bfloat16 if has_bfloat16 else torch.float16
    gains = bfloat16_pays and _multiplies_bfloat16()
    return torch.bfloat16 if gains else torch.float32


def set_arithmetic(precision: str) -> None:
    """Have GPUs compute float32 as such, or with ten bits of mantissa (TF32) where `tf32` is asked for.

    torch's own default is TF32 in convolutions and float32 in products.
    """
    torch.backends.cudnn.allow_tf32 = precision == "tf32"
    torch.backends.cuda.matmul.allow_tf32 = precision == "tf32"


def inference_dtype(description: Mapping[str, Any], device: torch.device) -> torch.dtype:
    """Arithmetic in which a trained network infers, from its description; it is set, the log says it."""
    backbone, precision = described_backbone(description), description["precision"]
    set_arithmetic(precision)
    dtype = choose_dtype(precision, backbone.bfloat16_pays, device)
    name = precision if precision == "tf32" else str(dtype).removeprefix("torch.")
    logger.info("%s in %s on %s, channels_last, one scale at a time", backbone.name, name, device)
    return dtype


def autocast(dtype: torch.dtype, device: torch.device) -> AbstractContextManager[object]:
    """Convolutions and products in `dtype`, the rest in float32."""
    if dtype == torch.float32:
        return nullcontext()
    return torch.autocast(device.type, dtype=dtype)


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
