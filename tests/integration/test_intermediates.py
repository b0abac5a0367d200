"""The target rules ask for an output of every job, and for nothing else: checked on Snakemake's plan."""

import re
from typing import Any

import pytest
import yaml

from tests.integration.conftest import REPOSITORY, TINY, Checkout, copy_checkout
from tests.integration.test_leftovers import LARGE, OTHERS, SPLITS_OF_VOC
from workflow_scripts.planning.workflow import Workflow
from workflow_scripts.settings.base import merge

CONFIGURATIONS: dict[str, dict[str, Any]] = {
    "everything": {
        **LARGE,
        "dataset": SPLITS_OF_VOC,
        "shards": 2,
        "thresholds": [0.3, "auto", "validation"],
        "splits": {"activations": ["val"], "thresholds": ["train_aug"]},
    },
    "no masks": {**LARGE, "shards": 2, "masks": False, "methods": ["plain", "theirs"]},
    "splits apart": {
        "dataset": SPLITS_OF_VOC,
        "methods": ["cam"],
        "splits": {"activations": ["val"], "segmentation": ["train_aug"]},
    },
    "another seeds' source": OTHERS["another seeds' source"],
}


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Checkout:
    made = copy_checkout(tmp_path_factory.mktemp("intermediates"))
    (made.folder / "arrays").mkdir()
    return made


def _plan(checkout: Checkout, *targets: str) -> tuple[set[str], set[str]]:
    """Numbers of all jobs on the way to some targets, and of those whose output another job reads last.

    The last job is that of a target rule, if there is one.
    """
    graph = checkout.snakemake(*targets, "--dag").stdout
    jobs = dict(re.findall(r'^\s*(\d+)\[label = "([^"]+)"', graph, re.MULTILINE))
    arrows = re.findall(r"^\s*(\d+) -> (\d+)$", graph, re.MULTILINE)
    last = {number for number, label in jobs.items() if label == targets[0]}
    return jobs.keys() - last, {start for start, end in arrows if end in last}


@pytest.mark.parametrize("name", CONFIGURATIONS)
def test_targets_ask_for_every_job_and_no_more(checkout: Checkout, name: str) -> None:
    checkout.configure(**CONFIGURATIONS[name])
    base = yaml.safe_load((REPOSITORY / "config/config.yaml").read_text())
    plan = Workflow(merge(base, {**TINY, **CONFIGURATIONS[name]}))
    for target, ends in (("all", [plan.path("report.html")]), ("train_all", plan.training_half)):
        jobs, asked = _plan(checkout, target)
        assert jobs == asked
        assert len(jobs) == len(_plan(checkout, *ends)[0])
