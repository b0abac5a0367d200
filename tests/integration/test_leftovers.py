"""What another configuration of the same run left behind does not count: checked on Snakemake's plan."""

import re
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.integration.conftest import REPOSITORY, TINY, Checkout, copy_checkout
from workflow_scripts.evaluation.run_results import Benchmarks
from workflow_scripts.planning.workflow import Workflow
from workflow_scripts.settings.base import merge

# A dataset with one split more than the demo has, train_aug. Nothing of it is read.
SPLITS_OF_VOC = {"kind": "voc12"}
LARGE = {
    "shards": 3,
    "trials": 2,
    "thresholds": [0.3, "auto"],
    "boundary": {"enabled": True},
    "methods": ["cam", "amn", "plain", "theirs", "full"],
    "variants": {"plain": {"balance": False}},
    "imports": {"theirs": {"activations": "arrays"}},
}
OTHERS: dict[str, dict[str, Any]] = {
    "few shards": {"shards": 2, "thresholds": [0.3]},
    "fixed thresholds": {
        "thresholds": [0.5],
        "refine_seeds": {
            method: {"foreground_threshold": 0.5, "background_threshold": 0.2}
            for method in ("cam", "amn")
        },
    },
    "no masks": {"masks": False, "methods": ["amn"], "thresholds": ["auto"]},
    "a validation split": {
        "dataset": SPLITS_OF_VOC,
        "methods": ["cam"],
        "thresholds": ["validation"],
        "splits": {"thresholds": ["train_aug"]},
    },
    "another seeds' source": {
        "methods": ["amn_on_masks"],
        "imports": {"drawn": {"seeds": "arrays"}},
        "variants": {"amn_on_masks": {"seeds_from": "drawn"}},
    },
}


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Checkout:
    made = copy_checkout(tmp_path_factory.mktemp("leftovers"))
    (made.folder / "arrays").mkdir()
    return made


def _benchmarks(checkout: Checkout, **changes: Any) -> set[str]:
    """Benchmarks, `{stage}/{wildcards}`, of all jobs that `all` would have from the beginning."""
    checkout.configure(**changes)
    output = checkout.snakemake("all", "-n", "-p", "--forceall").stdout
    # A job's log has the name of its benchmark.
    found = re.findall(r"(?:--log|2>) results/tiny/logs/(\S+)\.log$", output, re.MULTILINE)
    assert len(found) == int(re.findall(r"^total +(\d+)$", output, re.MULTILINE)[0]) - 1
    return set(found)


def _write(folder: Path, names: set[str]) -> None:
    for name in names:
        path = folder / f"{name}.tsv"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("s\tmax_rss\n1.0\t1\n")


@pytest.fixture(scope="module")
def left(checkout: Checkout) -> set[str]:
    """Benchmarks of the large configuration."""
    return _benchmarks(checkout, **LARGE)


def _counted(changes: dict[str, Any], folder: Path) -> dict[str, float]:
    base = yaml.safe_load((REPOSITORY / "config/config.yaml").read_text())
    plan = Workflow(merge(base, {**TINY, **changes}))
    costs = Benchmarks(folder, tuple(plan.job_patterns)).costs()
    return {stage: cost.seconds for stage, cost in costs.items()}


def _by_stage(names: set[str]) -> dict[str, float]:
    """Jobs of each stage; those of `train` and `infer` for each method apart."""
    stages = (re.sub(r"^(train|infer)/\d+-(\w+).*", r"\1 \2", name) for name in names)
    return dict(Counter(stage.split("/")[0] for stage in stages))


def test_all_of_a_configurations_own_jobs_count(left: set[str], tmp_path: Path) -> None:
    _write(tmp_path, left)
    assert _counted(LARGE, tmp_path) == _by_stage(left)
    assert len(left) > 200


@pytest.mark.parametrize("name", OTHERS)
def test_jobs_of_another_configuration_do_not(
    checkout: Checkout, left: set[str], tmp_path: Path, name: str
) -> None:
    planned = _benchmarks(checkout, **OTHERS[name])
    _write(tmp_path, left | planned)
    assert _counted(OTHERS[name], tmp_path) == _by_stage(planned)
