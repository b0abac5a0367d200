"""Which benchmarks count, and what they say."""

from pathlib import Path

import pytest

from workflow_scripts.errors import InputError
from workflow_scripts.evaluation.run_results import Benchmarks, StageCost

JOBS = (
    "train_cam/0",
    "infer_cam/0-train-00",
    "infer_cam/0-val-03",
    "train_segmentation/0-cam-t0.50",
    "evaluate_masks/0-cam-t0.50-segmentation-val-00",
    "summarise/summarise",
)
LEFTOVERS = (
    "infer_cam/0-train-04",
    "infer_cam/1-train-00",
    "infer_cam/0-train_aug-00",
    "train_segmentation/0-cam-t0.30",
    "train_segmentation/0-older-t0.50",
    "train_boundary/0-cam",
)
PATTERNS = (
    "train_cam/0",
    "infer_cam/0-(train-00|val-00|val-03)",
    r"train_segmentation/0-cam-t0\.50",
    r"evaluate_masks/0-cam-t0\.50-segmentation-val-00",
    "summarise/summarise",
)


def write(folder: Path, name: str, rows: str = "2.5\t100\n") -> Path:
    path = folder / f"{name}.tsv"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"s\tmax_rss\n{rows}")
    return path


def test_leftovers_of_other_configurations_do_not_count(tmp_path: Path) -> None:
    for name in (*JOBS, *LEFTOVERS):
        write(tmp_path, name)
    costs = Benchmarks(tmp_path, PATTERNS).costs()
    assert {stage: cost.seconds for stage, cost in costs.items()} == {
        "train_cam": 2.5,
        "infer_cam": 5.0,
        "train_segmentation": 2.5,
        "evaluate_masks": 2.5,
        "summarise": 2.5,
    }
    everything = Benchmarks(tmp_path).costs()
    assert sum(cost.seconds for cost in everything.values()) == 2.5 * len(JOBS + LEFTOVERS)


def test_repeats_are_averaged_and_memory_is_the_largest(tmp_path: Path) -> None:
    write(tmp_path, "train_cam/0", "1.0\t10\n3.0\t30\n")
    write(tmp_path, "train_cam/1", "4.0\t-\n")
    write(tmp_path, "infer_cam/0-val-00", "1.0\tNA\n")
    assert Benchmarks(tmp_path).costs() == {
        "infer_cam": StageCost(1.0, None),
        "train_cam": StageCost(6.0, 30.0),
    }


def test_methods_of_a_stage_count_apart(tmp_path: Path) -> None:
    for name in ("train/0-cam", "train/1-cam", "train/0-amn", "infer/0-my_amn-train_aug-00"):
        write(tmp_path, name)
    assert {stage: cost.seconds for stage, cost in Benchmarks(tmp_path).costs().items()} == {
        "train cam": 5.0,
        "train amn": 2.5,
        "infer my_amn": 2.5,
    }


@pytest.mark.parametrize("rows", ["", "x\t1\n"])
def test_what_is_no_benchmark_is_named(tmp_path: Path, rows: str) -> None:
    path = write(tmp_path, "train_cam/0", rows)
    with pytest.raises(InputError, match=str(path)):
        Benchmarks(tmp_path).costs()
