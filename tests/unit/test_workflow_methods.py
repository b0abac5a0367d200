"""Methods of a configuration: variants, imports, and which rule makes what."""

import re
from types import SimpleNamespace

import pytest

from workflow_scripts.errors import InputError
from workflow_scripts.planning.workflow import Workflow

CONFIG = {
    "dataset": {"kind": "demo"},
    "methods": ["mine", "amn_on_mine", "amn"],
    "imports": {
        "mine": {"activations": "arrays", "refine_seeds": {"foreground_threshold": 0.4}},
        "masks": {"seeds": "pngs"},
    },
    "variants": {"amn_on_mine": {"seeds_from": "mine", "label_smoothing": 0.2}},
}


def _wildcards(method):
    return SimpleNamespace(trial=0, method=method, shard="train-00")


def test_each_method_has_one_rule_that_makes_its_seeds():
    plan = Workflow(CONFIG)
    patterns = {
        "thresholded": plan.thresholded_methods,
        "imported": plan.imported_seeds,
    }
    for method in ("cam", "amn", "amn_on_mine", "mine", "masks"):
        makers = [name for name, pattern in patterns.items() if re.fullmatch(pattern, method)]
        assert len(makers) == 1, method
    assert re.fullmatch(plan.imported_activations, "mine")
    assert not re.fullmatch(Workflow({"dataset": {"kind": "demo"}}).imported_seeds, "cam")


def test_a_variant_learns_from_the_seeds_it_names():
    plan = Workflow(CONFIG)
    assert plan.source_training_seeds(_wildcards("amn_on_mine")) == [
        "results/demo/0/mine/seeds/train-00.zip"
    ]
    assert plan.source_seeds(_wildcards("amn")) == "results/demo/{trial}/cam/seeds/{shard}.zip"
    flags = plan.amn_flags(_wildcards("amn_on_mine"))
    assert "--label-smoothing 0.2" in flags and "seeds-from" not in flags
    assert "--foreground-threshold 0.4" in plan.seed_flags(_wildcards("mine"))
    assert plan.import_flags(_wildcards("mine")) == "--normalise none"
    assert plan.imported_folder(_wildcards("masks")) == "pngs"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"imports": {"mine": {}}}, "give one of `activations`"),
        ({"imports": {"mine": {"activations": "a", "seeds": "b"}}}, "give one of `activations`"),
        ({"imports": {"cam": {"seeds": "b"}}}, "`cam` cannot be a name"),
        ({"variants": {"mine": {}}}, "in `variants` and in `imports`"),
        ({"variants": {"amn_on_mine": {"seeds_from": "yours"}}}, "expected cam or mine or masks"),
        ({"methods": ["yours"]}, "`yours` is none of cam, amn, full, amn_on_mine, mine, masks"),
        ({"methods": ["full"], "masks": False}, "`full` learns from ground-truth masks"),
    ],
)
def test_mistakes_are_named(changes, message):
    with pytest.raises(InputError, match=re.escape(message)):
        Workflow({**CONFIG, **changes})
