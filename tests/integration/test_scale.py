"""Planning a run of COCO's size: 82,783 training images, 64 shards, 3 trials."""

import os
import subprocess
import sys

import pytest
import yaml

from tests.integration.conftest import copy_checkout
from workflow_scripts.datasets.index import IndexRow, write_index

TRAINING_IMAGES, VALIDATION_IMAGES = 82_783, 40_504
SHARDS, TRIALS = 64, 3
MOST_SECONDS, MOST_KILOBYTES = 60, 2_000_000


@pytest.fixture(scope="module")
def plan(tmp_path_factory):
    """Output of `snakemake -n`, the memory it took in KiB and its processor seconds."""
    checkout = copy_checkout(tmp_path_factory.mktemp("scale"))
    folder = checkout.folder / "results/coco/dataset"
    classes = [f"class{number}" for number in range(80)]
    splits = ["train"] * TRAINING_IMAGES + ["val"] * VALIDATION_IMAGES
    rows = (
        IndexRow(
            f"{number:012d}", f"{number:012d}.jpg", 640, 480, split, [classes[number % 80]], ""
        )
        for number, split in enumerate(splits)
    )
    write_index(folder / "index.csv", classes, rows)
    configuration = {
        "run": "coco", "shards": SHARDS, "trials": TRIALS, "methods": ["cam", "amn"],
        "dataset": {"kind": "coco14"},
    }  # fmt: skip
    (checkout.folder / "coco.yaml").write_text(yaml.safe_dump(configuration))
    output = checkout.folder / "plan.txt"
    with output.open("w") as file:
        process = subprocess.Popen(
            [sys.executable, "-m", "snakemake", "all", "-n", "--quiet", "rules", "--configfile", "coco.yaml"],
            cwd=checkout.folder, stdout=file, stderr=subprocess.STDOUT,
        )  # fmt: skip
        _, status, usage = os.wait4(process.pid, 0)
    text = output.read_text()
    assert status == 0, text[-3000:]
    return text, usage.ru_maxrss, usage.ru_utime + usage.ru_stime


def counts(text):
    """Jobs of each rule, from Snakemake's table."""
    words = [line.split() for line in text.splitlines()]
    return {line[0]: int(line[1]) for line in words if len(line) == 2 and line[1].isdigit()}


def test_every_shard_is_planned_once(plan):
    planned = counts(plan[0])
    assert planned["train"] == 2 * TRIALS
    assert planned["infer"] == 2 * 2 * SHARDS * TRIALS
    assert planned["evaluate_segmentation"] == 2 * SHARDS * TRIALS


def test_a_few_files_a_shard_and_stage_never_one_an_image(plan):
    assert counts(plan[0])["total"] < 100 * SHARDS * TRIALS < TRAINING_IMAGES


def test_it_plans_in_a_minute_and_two_gigabytes(plan):
    """In processor seconds: other work on the machine must not decide."""
    assert plan[1] < MOST_KILOBYTES
    assert plan[2] < MOST_SECONDS
