import subprocess
import sys
from pathlib import Path

import pytest

from workflow_scripts.errors import InputError
from workflow_scripts.training.launch import check_batch, command

STAGE = ["train_cam", "--output", "model.safetensors"]


def test_one_gpu_or_none_is_a_plain_process():
    plain = [sys.executable, "-m", "workflow_scripts.train_cam", "--output", "model.safetensors"]
    assert command(0, STAGE, {}) == plain
    assert command(1, STAGE, {"SLURM_JOB_NUM_NODES": "1"}) == plain


def test_several_gpus_of_a_node_are_torchrun():
    given = command(4, STAGE, {})
    assert given[1:5] == ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node=4"]
    assert given[5:] == ["-m", "workflow_scripts.train_cam", "--output", "model.safetensors"]


def test_several_nodes_are_torchrun_on_each():
    job = {"SLURM_JOB_ID": "17", "SLURM_JOB_NUM_NODES": "2"}
    given = command(8, STAGE, job, "gpu1")
    assert given[:2] == ["srun", "--overlap"]
    assert {"--nodes=2", "--ntasks=2", "--gpus-per-node=4"} < set(given)
    assert "--nnodes=2" in given and "--nproc-per-node=4" in given
    endpoint = next(flag for flag in given if flag.startswith("--rdzv-endpoint="))
    assert endpoint.startswith("--rdzv-endpoint=gpu1:")
    assert given[-4:] == ["-m", "workflow_scripts.train_cam", "--output", "model.safetensors"]


def test_gpus_are_shared_evenly_by_the_nodes():
    job = {"SLURM_JOB_ID": "17", "SLURM_JOB_NUM_NODES": "2"}
    with pytest.raises(InputError, match="3 GPUs cannot be shared evenly by 2 nodes"):
        command(3, STAGE, job, "gpu1")


def test_two_jobs_of_a_node_use_different_ports():
    endpoints = {
        next(flag for flag in command(8, STAGE, job, "gpu1") if "endpoint" in flag)
        for number in range(5)
        for job in [{"SLURM_JOB_ID": str(number), "SLURM_JOB_NUM_NODES": "2"}]
    }
    assert len(endpoints) == 5


@pytest.mark.parametrize("batch, gpus", [(16, 1), (16, 4), (10, 5), (10, 0)])
def test_batches_that_can_be_shared(batch, gpus):
    check_batch(batch, gpus)


def test_a_batch_that_cannot_be_shared_is_refused_with_what_can():
    with pytest.raises(InputError) as error:
        check_batch(10, 4, "train_segmentation")
    assert str(error.value) == (
        "train_segmentation.training.batch_size: 10 images cannot be shared evenly by 4 processes, one a "
        "GPU; set `gpu` of this rule to 1 or 2, 5, 10, or the batch size to 8"
    )
    with pytest.raises(InputError, match="or the batch size to 3"):
        check_batch(1, 3)


def test_the_launcher_refuses_it_before_anything_starts():
    launch = [sys.executable, "-m", "workflow_scripts.training.launch", "4", *STAGE]
    done = subprocess.run(
        [*launch, "--training-batch-size", "10"], cwd=Path(__file__).resolve().parents[2],
        capture_output=True, text=True, check=False, timeout=20,
    )  # fmt: skip
    assert done.returncode != 0
    assert "train_cam: error: " in done.stderr and "10 images cannot be shared" in done.stderr
    assert "Traceback" not in done.stderr
