"""The processes of one training run, as torchrun starts them."""

import os
from dataclasses import dataclass
from typing import Self

import torch
import torch.distributed
from torch import Tensor, nn

from workflow_scripts.console.processes import count
from workflow_scripts.errors import InputError
from workflow_scripts.training.gpu_locks import take_gpu


def choose_device(name: str) -> torch.device:
    """`auto` is a free GPU if there are any.

    Raises:
        InputError: A GPU was asked for and there is none, or the name is another.
    """
    if name not in ("auto", "cpu", "cuda"):
        raise InputError(f"--device {name}: expected auto, cpu or cuda")
    if name != "cpu":
        take_gpu(torch.cuda.device_count)
    if name == "cuda" and not torch.cuda.is_available():
        raise InputError("--device cuda: no GPU is visible to this process; use `--device auto`")
    if name == "cpu" or not torch.cuda.is_available():
        return torch.device("cpu")
    return torch.device("cuda", 0)


@dataclass(frozen=True)
class World:
    """This process among all processes of the run.

    Attributes:
        rank: Number of this process.
        processes: Number of processes.
        device: Where this process computes.
    """

    rank: int
    processes: int
    device: torch.device

    @classmethod
    def join(cls, device: str) -> Self:
        """Join the run that torchrun's environment variables describe; alone without them."""
        processes = count()
        chosen = choose_device(device)
        if processes > 1:
            torch.distributed.init_process_group("nccl" if chosen.type == "cuda" else "gloo")
        if chosen.type == "cuda":
            torch.cuda.set_device(chosen)
        return cls(int(os.environ.get("RANK", "0")), processes, chosen)

    @property
    def leads(self) -> bool:
        """Whether this process writes files and shows progress."""
        return self.rank == 0

    def wrap(self, network: nn.Module) -> nn.Module:
        """The network with gradients averaged over the processes."""
        if self.processes == 1:
            return network
        devices = [self.device] if self.device.type == "cuda" else None
        # Batch normalisation keeps its stored statistics: there is nothing to send but gradients, and a
        # process that fails before it has some leaves no other one waiting.
        return nn.parallel.DistributedDataParallel(
            network, device_ids=devices, broadcast_buffers=False
        )

    def sum(self, values: Tensor) -> Tensor:
        """Sum of a tensor over all processes."""
        if self.processes > 1:
            torch.distributed.all_reduce(values)
        return values

    def any(self, here: bool) -> bool:
        """Whether it is so in any process."""
        return bool(self.sum(torch.tensor(float(here), device=self.device)).item())

    def leave(self) -> None:
        """End this process's part in the run."""
        if self.processes > 1:
            torch.distributed.destroy_process_group()
