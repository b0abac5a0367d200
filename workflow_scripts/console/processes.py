"""The processes of one job, as torchrun starts them, before they exchange tensors.

The first process alone holds the output's lock, and may wait long for it. The others wait for its word
outside of NCCL, whose patience ends after ten minutes.
"""

import os
from datetime import timedelta
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch.distributed import TCPStore

PATIENCE = timedelta(days=30)
KEY = "workflow_scripts/owner"
DONE, TO_DO = "done", "to do"


def count() -> int:
    """Number of processes of the job."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def count_here() -> int:
    """Number of processes of the job on this machine."""
    return int(os.environ.get("LOCAL_WORLD_SIZE", "1"))


def leads() -> bool:
    """Whether this is the process of a job that writes files: the only one, or torchrun's first."""
    return os.environ.get("RANK", "0") == "0"


def _store() -> "TCPStore":
    """The store of torchrun, which all its processes reach."""
    from torch.distributed import TCPStore

    address, port = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
    return TCPStore(address, port, is_master=False, wait_for_workers=False, timeout=PATIENCE)


def announce(done: bool) -> None:
    """Tell the other processes that the output is ours, and whether it is already there."""
    if count() > 1:
        _store().set(KEY, DONE if done else TO_DO)


def announced() -> bool:
    """What the first process announces; waits for it."""
    return bool(_store().get(KEY) == DONE.encode())
