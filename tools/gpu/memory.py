"""A device whose memory does not suffice: smaller batches, the same results."""

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from tools.gpu.agreement import BATCH, TOLERANCES, losses
from tools.gpu.check import Check
from tools.gpu.material import Material, on
from workflow_scripts.models.classification import cam_activations

# Of the memory that the whole batch takes.
SHARE = 0.6
WORDS = "out of GPU memory"


class Heard(logging.Handler):
    """Counts the warnings that a batch was made smaller."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.count = 0

    def emit(self, record: logging.LogRecord) -> None:
        """Look at a message."""
        self.count += WORDS in record.getMessage()


@contextmanager
def heard() -> Iterator[Heard]:
    """What is said in the block."""
    handler, logger = Heard(), logging.getLogger("workflow_scripts")
    logger.addHandler(handler)
    try:
        yield handler
    finally:
        logger.removeHandler(handler)


def peak(work: Callable[[], Any], device: torch.device) -> tuple[Any, int, int]:
    """What `work` returns, bytes that were taken before, and the most that were taken meanwhile."""
    if device.type != "cuda":
        return work(), 0, 0
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats(device)
    before = torch.cuda.memory_reserved(device)
    result = work()
    return result, before, torch.cuda.max_memory_reserved(device)


@contextmanager
def capped(device: torch.device, before: int, most: int, network: nn.Module) -> Iterator[None]:
    """Too little memory for a batch; on a CPU the network stands in, and sees one image at a time."""
    if device.type != "cuda":
        with _of_one_image(network):
            yield
        return
    total = torch.cuda.get_device_properties(device).total_memory
    torch.cuda.empty_cache()
    torch.cuda.set_per_process_memory_fraction((before + SHARE * (most - before)) / total, device)
    try:
        yield
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0, device)
        torch.cuda.empty_cache()


@contextmanager
def _of_one_image(network: nn.Module) -> Iterator[None]:
    def refuse(module: nn.Module, arguments: tuple[Any, ...]) -> None:
        if len(arguments[0]) > 1:
            raise torch.OutOfMemoryError

    handle = network.backbone.register_forward_pre_hook(refuse)  # type: ignore[union-attr]
    try:
        yield
    finally:
        handle.remove()


def checks(material: Material) -> Iterator[Check]:
    """Inference and training with too little memory."""
    yield inference(material)
    yield training(material)


def inference(material: Material) -> Check:
    """Activations of a batch that does not fit."""
    network = on(material.learner("cam").network, material.device)
    images = material.labelled()
    scales = material.settings.inference("cam").scales  # type: ignore[attr-defined]

    def work() -> list[Any]:
        return cam_activations(network, images, scales, material.device)

    expected, before, most = peak(work, material.device)
    with heard() as said, capped(material.device, before, most, network):
        found = work()
    largest = max(
        float(abs(one - other).max() / max(other.max(), 1e-12))
        for maps, same in zip(found, expected, strict=True)
        for one, other in zip(maps.maps, same.maps, strict=True)
    )
    passed = bool(said.count) and largest <= TOLERANCES["float32"]
    return Check("inference in little memory", passed, f"halved {said.count} times, {largest:.1e}")


def training(material: Material) -> Check:
    """A step whose batch does not fit."""
    learner = material.learner("amn")
    expected, before, most = peak(
        lambda: losses(learner, material, material.device, steps=1), material.device
    )
    with heard() as said, capped(material.device, before, most, learner.network):
        found = losses(learner, material, material.device, steps=1)
    difference = abs(found[0] - expected[0]) / abs(expected[0])
    passed = bool(said.count) and difference <= TOLERANCES["float32"]
    what = f"a batch of {BATCH} halved {said.count} times, loss differs by {difference:.1e}"
    return Check("training in little memory", passed, what)
