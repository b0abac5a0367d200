"""`snakemake --profile slurm all` on a real cluster."""

import re

import pytest

from tests.slurm.conftest import ON_GPU

pytestmark = pytest.mark.slurm

ON_CPU = (
    "choose_thresholds",
    "refine_seeds",
    "make_pseudo_masks",
    "sweep_thresholds",
    "evaluate_seeds",
    "evaluate_masks",
)
LOCAL = ("prepare_dataset", "summarise", "plot_figures", "make_gallery", "make_explorer")


def test_heavy_rules_are_jobs_with_the_gpu_they_asked_for(undisturbed):
    jobs = set()
    for rule in ON_GPU:
        places = re.findall(r" on (\S+, SLURM_JOB_ID=.*)", undisturbed.log(rule))
        assert places, rule
        for place in places:
            assert re.search(r"CUDA_VISIBLE_DEVICES=[01](,|$)", place), (rule, place)
            assert re.search(r"SLURMD_NODENAME=gpu[12]", place), (rule, place)
            jobs.add(re.search(r"SLURM_JOB_ID=(\d+)", place)[1])
    assert len(jobs) >= len(ON_GPU)
    for rule in ON_CPU:
        assert "SLURM_JOB_ID=" in undisturbed.log(rule), rule
        assert not re.search(r"CUDA_VISIBLE_DEVICES=\d", undisturbed.log(rule)), rule


def test_light_rules_run_where_snakemake_runs(undisturbed):
    for rule in LOCAL:
        assert undisturbed.log(rule)
        assert "SLURM_JOB_ID=" not in undisturbed.log(rule), rule


def test_the_figures_are_there_and_no_lock_is_left(undisturbed):
    assert set(undisturbed.summary()["methods"]) >= {"cam", "amn"}
    assert list((undisturbed.folder / "results").rglob(".*.owner")) == []
