"""Optimisers with the field's parameter groups, and learning rates over the steps."""

import math
from collections.abc import Callable

import torch
from torch import nn

from workflow_scripts.settings.training import OptimiserSettings

POLYNOMIAL_POWER = 0.9
WARM_UP, START, END = 0.3, 1 / 25, 1e-4


def schedule_factor(schedule: str, steps: int) -> Callable[[int], float]:
    """The learning rate at each step, as a share of its peak.

    Args:
        schedule: "constant"; "polynomial", (1 − step / steps)^0.9; or "one_cycle", which rises on a
            half cosine over the first 30 % of the steps and then falls on one (Smith, 2018).
        steps: Steps of the whole run.
    """

    def half_cosine(start: float, end: float, share: float) -> float:
        return end + (start - end) * (1 + math.cos(math.pi * share)) / 2

    def factor(step: int) -> float:
        progress = min(step / max(steps, 1), 1.0)
        if schedule == "polynomial":
            return (1 - progress) ** POLYNOMIAL_POWER
        if schedule == "one_cycle":
            if progress < WARM_UP:
                return half_cosine(START, 1.0, progress / WARM_UP)
            return half_cosine(1.0, END, (progress - WARM_UP) / (1 - WARM_UP))
        return 1.0

    return factor


def build_optimiser(network: nn.Module, settings: OptimiserSettings) -> torch.optim.Optimizer:
    """The optimiser with three groups: backbone, new layers' weights, new layers' biases.

    The backbone is the child of that name; every other parameter belongs to the new layers, except for
    those that the network's attribute `at_base_rate` (beginnings of names) counts with the backbone.
    """
    base = ("backbone.", *getattr(network, "at_base_rate", ()))
    backbone, weights, biases = [], [], []
    for name, parameter in network.named_parameters():
        if not parameter.requires_grad:
            continue
        if name.startswith(base):
            backbone.append(parameter)
        elif name.endswith(".bias"):
            biases.append(parameter)
        else:
            weights.append(parameter)
    rate = settings.learning_rate
    head = rate * settings.head_factor
    groups = [
        {"params": backbone, "lr": rate},
        {"params": weights, "lr": head},
        {"params": biases, "lr": head * settings.head_bias_factor},
    ]
    groups = [group for group in groups if group["params"]]
    # One kernel for all tensors, and no look at a scaler's verdict on the way; the formulas are the same.
    fused = all(one.is_cuda for one in (*backbone, *weights, *biases)) or None
    decay = settings.weight_decay
    if settings.name == "sgd":
        return torch.optim.SGD(
            groups, lr=rate, momentum=settings.momentum, weight_decay=decay, fused=fused
        )
    kind = torch.optim.Adam if settings.name == "adam" else torch.optim.AdamW
    return kind(groups, lr=rate, weight_decay=decay, fused=fused)
