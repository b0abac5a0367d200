"""Where a process computes, and the processes of one training run, as torchrun starts them."""

import os
from dataclasses import dataclass
from typing import Self

import torch
import torch.distributed
from torch import Tensor, nn

from workflow_scripts.console.job import count
from workflow_scripts.errors import InputError
from workflow_scripts.training.gpus import VISIBLE, take_gpu, visible_gpus


def _why_not() -> str:
    """Why torch does not use a GPU that is here."""
    if torch.version.cuda is None and torch.version.hip is None:
        return "this PyTorch is built for CPUs alone; install one for CUDA"
    return f"this PyTorch ({torch.__version__}) cannot use it; the driver may be too old: see `nvidia-smi`"


def choose_device(name: str) -> torch.device:
    """`auto` is a free GPU if there are any; none is passed over in silence.

    Raises:
        InputError: A GPU was asked for and there is none, one is here that cannot be used, or the name
            is another.
    """
    if name not in ("auto", "cpu", "cuda"):
        raise InputError(f"--device {name}: expected auto, cpu or cuda")
    if name == "cpu":
        return torch.device("cpu")
    device = take_gpu(visible_gpus())
    # GPUs of another maker have no library that lists them, but may be torch's "cuda".
    if torch.cuda.is_available():
        return torch.device("cuda", 0)
    if device is not None:
        raise InputError(
            f"GPU {device} is here, but {_why_not()}; or say `device: cpu` to do without"
        )
    if name == "cuda":
        given = os.environ.get(VISIBLE)
        reason = f" ({VISIBLE} is '{given}')" if given is not None else ""
        raise InputError(
            f"--device cuda: this job asked for a GPU, and none is visible to it{reason}; look at "
            "`nvidia-smi` and at what the scheduler gave, or say `device: cpu` to do without"
        )
    return torch.device("cpu")


def loader_workers(cores: int, device: torch.device) -> int:
    """Loader processes for a process that has so many cores: on a CPU one of them computes."""
    cores = min(cores, os.cpu_count() or cores)
    return max(1, cores) if device.type == "cuda" else max(0, cores - 1)


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
            # Words between the processes go past the GPU, so that none waits for it.
            torch.distributed.init_process_group(
                "cpu:gloo,cuda:nccl" if chosen.type == "cuda" else "gloo"
            )
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

    def any(self, *here: bool) -> list[bool]:
        """Of each, whether it is so in any process; the GPU has no part in it."""
        if self.processes == 1:
            return list(here)
        return [value > 0 for value in self.sum(torch.tensor(here, dtype=torch.float32)).tolist()]

    def leave(self) -> None:
        """End this process's part in the run."""
        if self.processes > 1:
            torch.distributed.destroy_process_group()
