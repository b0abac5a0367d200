"""Start a training stage on several GPUs of a node, or on several nodes of a job.

    python -m workflow_scripts.training.launch 4 train_cam --index … --output …

With one GPU or none it is `python -m workflow_scripts.train_cam …`; with more it is torchrun, one process
a GPU. The batch size is that of all processes together, so the result does not depend on their number.
In a Slurm job of several nodes torchrun starts on each of them, through srun.
"""

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from itertools import pairwise
from zlib import crc32

from workflow_scripts.errors import InputError

FIRST_PORT, PORTS = 20000, 10000
BATCH_FLAG = "--training-batch-size"


def check_batch(batch_size: int, processes: int, rule: str = "") -> None:
    """Refuse a batch that the processes of a training cannot share evenly, and name what they can.

    Args:
        batch_size: Images a step, over all processes.
        processes: One for each GPU.
        rule: Which training it is, for the message.

    Raises:
        InputError: The batch is no multiple of the processes.
    """
    if processes <= 1 or batch_size % processes == 0:
        return
    where = f"{rule}.training.batch_size" if rule else "training.batch_size"
    fitting = [number for number in range(2, batch_size + 1) if batch_size % number == 0]
    nearest = max(processes, round(batch_size / processes) * processes)
    raise InputError(
        f"{where}: {batch_size} images cannot be shared evenly by {processes} processes, one a GPU; set "
        f"`gpu` of this rule to 1 or {', '.join(map(str, fitting)) or '2'}, or the batch size to {nearest}"
    )


def check_batch_of(gpus: int, stage: Sequence[str]) -> None:
    """The same for a stage's name and flags; where they leave the batch size out, the stage checks it."""
    size = dict(pairwise(stage)).get(BATCH_FLAG, "")
    if size.isdecimal():
        check_batch(int(size), gpus, stage[0])


def command(gpus: int, stage: Sequence[str], job: Mapping[str, str], head: str = "") -> list[str]:
    """The command that runs a stage.

    Args:
        gpus: GPUs of the whole job.
        stage: The stage's name and its flags.
        job: Slurm's environment variables; empty outside of Slurm.
        head: Name of the job's first node, where there are several.

    Raises:
        InputError: The nodes would have different numbers of GPUs.
    """
    module = [f"workflow_scripts.{stage[0]}", *stage[1:]]
    nodes = int(job.get("SLURM_JOB_NUM_NODES", "1"))
    if gpus <= 1:
        return [sys.executable, "-m", *module]
    torchrun = [sys.executable, "-m", "torch.distributed.run"]
    if gpus % nodes:
        raise InputError(
            f"{gpus} GPUs cannot be shared evenly by {nodes} nodes; change `gpu` or `nodes` of this rule"
        )
    if nodes == 1:
        return [*torchrun, "--standalone", f"--nproc-per-node={gpus}", "-m", *module]
    # Jobs that share a head node need ports of their own.
    port = FIRST_PORT + crc32(job["SLURM_JOB_ID"].encode()) % PORTS
    return [
        # Within the step in which Snakemake runs, which holds the job's devices already.
        "srun", "--overlap", f"--nodes={nodes}", f"--ntasks={nodes}", "--ntasks-per-node=1",
        f"--gpus-per-node={gpus // nodes}",
        *torchrun, f"--nnodes={nodes}", f"--nproc-per-node={gpus // nodes}",
        f"--rdzv-id={job['SLURM_JOB_ID']}", "--rdzv-backend=c10d", f"--rdzv-endpoint={head}:{port}",
        "-m", *module,
    ]  # fmt: skip


def first_node(nodes: str) -> str:
    """First of the nodes of a job, from Slurm's list of them (`gpu[1-2]`)."""
    names = subprocess.run(
        ["scontrol", "show", "hostnames", nodes], check=True, capture_output=True, text=True
    ).stdout.split()
    return names[0]


if __name__ == "__main__":
    several = int(os.environ.get("SLURM_JOB_NUM_NODES", "1")) > 1 and int(sys.argv[1]) > 1
    head = first_node(os.environ["SLURM_JOB_NODELIST"]) if several else ""
    try:
        check_batch_of(int(sys.argv[1]), sys.argv[2:])
        arguments = command(int(sys.argv[1]), sys.argv[2:], os.environ, head)
    except InputError as error:
        sys.exit(f"{sys.argv[2]}: error: {error}")
    os.execvp(arguments[0], arguments)
