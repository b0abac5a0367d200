"""Methods of a configuration: variants, imports, and which rule makes what."""

import re
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml

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
    assert plan.source_seeds(_wildcards("amn")) == ["results/demo/0/cam/seeds/train-00.zip"]
    assert (
        plan.source_training_seeds(_wildcards("cam")) == plan.source_seeds(_wildcards("cam")) == []
    )
    assert plan.base(_wildcards("amn_on_mine")) == "amn"
    flags = plan.method_flags(_wildcards("amn_on_mine"))
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
        (
            {"variants": {"amn_on_mine": {"seeds_from": "yours"}}},
            "expected amn or cam or clip_cam or recam or vit_cam or mine or masks",
        ),
        (
            {"methods": ["yours"]},
            "`yours` is none of amn, cam, clip_cam, recam, vit_cam, full, amn_on_mine, mine, masks",
        ),
        ({"methods": ["full"], "masks": False}, "`full` learns from ground-truth masks"),
    ],
)
def test_mistakes_are_named(changes, message):
    with pytest.raises(InputError, match=re.escape(message)):
        Workflow({**CONFIG, **changes})


@pytest.fixture
def files(tmp_path):
    """Three files; whether they hold networks is the stage's concern."""
    found = [str(tmp_path / f"res50 {name}.pth") for name in ("cam", "amn", "irn")]
    for file in found:
        Path(file).touch()
    return found


def _with(checkpoints, **changes):
    return Workflow(
        {**CONFIG, "boundary": {"enabled": True}, "checkpoints": checkpoints, **changes}
    )


def test_each_network_is_trained_or_imported(files):
    cam, amn, irn = files
    given = {"cam": cam, "amn_on_mine": amn, "boundary": {"amn": irn, "mine": irn}}
    plan = _with(given)
    trained = {
        *(m for m in ("cam", "amn", "amn_on_mine") if re.fullmatch(plan.trained_methods, m)),
        *(f"{m}/boundary" for m in plan.methods if re.fullmatch(plan.trained_boundaries, m)),
    }
    assert trained == {"amn", "amn_on_mine/boundary"}
    imported = {"cam", "amn_on_mine", "amn/boundary", "mine/boundary"}
    assert set(plan.imported_networks.split("|")) == imported
    none = Workflow(CONFIG)
    assert not re.fullmatch(none.imported_networks, "cam") and re.fullmatch(
        none.trained_methods, "cam"
    )
    assert re.fullmatch(none.trained_methods, "amn") and re.fullmatch(
        none.trained_boundaries, "mine"
    )


def test_only_networks_that_are_trained_have_curves_and_costs(files):
    cam, amn, irn = files
    plan = _with(
        {"cam": cam, "amn": amn, "boundary": {"amn": irn}}, trials=2, methods=["cam", "amn"]
    )
    short = {path.removeprefix("results/demo/1/") for path in plan.report_files.histories}
    assert {path for path in short if not path.startswith("results")} == {
        "cam/boundary/training.csv",
        "cam/t0.50/segmentation/training.csv",
        "amn/t0.50/segmentation/training.csv",
    }
    jobs = {
        "import_checkpoint/1-cam": True,
        "import_checkpoint/0-amn/boundary": True,
        "import_checkpoint/0-cam/boundary": False,
        "train/0-cam": False,
        "train/0-amn": False,
        "train_boundary/0-cam": True,
        "train_boundary/0-amn": False,
        "infer/0-amn-train-00": True,
    }
    for job, expected in jobs.items():
        assert any(re.fullmatch(pattern, job) for pattern in plan.job_patterns) == expected, job


def test_a_checkpoint_is_an_input_and_a_changed_one_another(files):
    cam, amn, irn = files
    plan = _with({"cam": cam, "amn_on_mine": amn, "boundary": {"mine": irn}})
    kinds = {"cam": "cam", "amn_on_mine": "amn", "mine/boundary": "irn"}
    for (network, kind), file in zip(kinds.items(), files, strict=True):
        names = SimpleNamespace(trial="0", network=network)
        assert plan.checkpoint(names) == [file]
        key = ".".join(["checkpoints", *reversed(network.split("/"))])
        assert plan.checkpoint_flags(names) == f"--kind {kind} --key {key}"
        state = plan.weights_state(plan.checkpoint)
        before = state(names)
        Path(file).write_text("other")
        assert state(names) != before


@pytest.mark.parametrize(
    ("key", "changes", "message"),
    [
        (
            "amm",
            {},
            "checkpoints.amm: `{}` cannot be used: `amm` is none of amn, cam, clip_cam, recam, vit_cam, "
            "amn_on_mine",
        ),
        ("full", {}, "`full` is none of amn, cam"),
        ("mine", {}, "checkpoints.mine: `{}` cannot be used: `mine` is one of `imports`"),
        (
            "boundary.yours",
            {},
            "checkpoints.boundary.yours: `{}` cannot be used: `yours` is none of",
        ),
        (
            "boundary.amn",
            {"boundary": {}},
            "checkpoints.boundary.amn: `{}` cannot be used: boundary",
        ),
    ],
)
def test_checkpoints_that_cannot_be_used_are_named_with_their_key(files, key, changes, message):
    file = files[0]
    outer, _, inner = key.partition(".")
    given = {outer: {inner: file} if inner else file}
    with pytest.raises(InputError, match=re.escape(message.format(file))):
        _with(given, **changes)


def test_a_run_cannot_start_from_its_own_results(tmp_path):
    file = tmp_path / "mine/0/cam/model.safetensors"
    file.parent.mkdir(parents=True)
    file.touch()
    given = {"results": str(tmp_path), "checkpoints": {"cam": str(file)}}
    assert Workflow({**CONFIG, **given, "run": "other"}).settings.checkpoints.cam == str(file)
    with pytest.raises(InputError, match=re.escape(f"checkpoints.cam: {file}: this run's own")):
        Workflow({**CONFIG, **given, "run": "mine"})


def test_a_missing_checkpoint_is_named_before_anything_runs(files):
    Path(files[1]).unlink()
    with pytest.raises(InputError, match=re.escape(f"checkpoints.amn: {files[1]}: no such file")):
        _with({"amn": files[1]})


def test_gpus_that_cannot_share_a_batch_are_refused_before_anything_runs():
    plan = Workflow({"dataset": {"kind": "demo"}, "boundary": {"enabled": True}})
    plan.check_gpus({})
    plan.check_gpus({"train": {"gpu": 4}, "train_segmentation": {"gpu": 5}, "evaluate": {"gpu": 3}})
    for rule, section in (
        ("train", "train_cam"),
        ("train_segmentation", "train_segmentation"),
        ("train_boundary", "boundary.train"),
    ):
        with pytest.raises(InputError, match=f"{section}.training.batch_size: .* 3 processes"):
            plan.check_gpus({rule: {"gpu": 3}})


def test_profiles_as_documented_are_legal():
    """Every GPU line of the profiles, comments taken away, is one that the plan accepts for VOC and COCO."""
    root = Path(__file__).resolve().parents[2]
    lines = [
        line.removeprefix("#").strip()
        for name in ("slurm/profile.yaml", "local/profile.yaml")
        for line in (root / name).read_text().splitlines()
        if "gpu: " in line and "{" in line and line.startswith("#   ")
    ]
    given: dict = {}
    for line in lines:
        given |= yaml.safe_load(line)
    assert {"train", "train_segmentation"} <= given.keys()
    for name in ("config", "voc12", "coco14", "folder"):
        Workflow(yaml.safe_load((root / f"config/{name}.yaml").read_text())).check_gpus(given)


@pytest.mark.parametrize(
    "name", ["resnet34", "mobilenetv3_small_100", "vit_tiny_patch16_224", "resnet101"]
)
def test_any_backbone_may_stand_in_any_section(name):
    given = {"backbone": {"name": name}}
    plan = Workflow(
        {
            "dataset": {"kind": "demo"}, "train_cam": given, "train_amn": given,
            "train_segmentation": given, "variants": {"other": given}, "methods": ["cam", "amn", "other"],
            "boundary": {"enabled": True, "train": given},
        }
    )  # fmt: skip
    for method in ("cam", "amn", "other"):
        assert f"--backbone-name {name} " in plan.method_flags(_wildcards(method))
    assert f"--backbone-name {name} " in plan.flags("train_segmentation")
    assert f"--backbone-name {name} " in plan.flags("boundary", "train")


def test_an_imported_network_needs_not_what_it_started_from(tmp_path):
    file = tmp_path / "recam.safetensors"
    file.touch()
    given = {"dataset": {"kind": "demo"}, "methods": ["recam"]}
    assert Workflow(given).needed_networks == ["recam", "cam"]
    plan = Workflow({**given, "checkpoints": {"recam": str(file)}})
    assert plan.needed_networks == ["recam"] and plan.needed_methods == ["recam"]
    plan.check_gpus({"train": {"gpu": 7}})


def test_an_import_runs_the_code_of_the_network_that_is_imported(tmp_path):
    file = tmp_path / "amn.pth"
    file.touch()
    given = {"dataset": {"kind": "demo"}, "methods": ["amn"], "checkpoints": {"amn": str(file)}}
    plan = Workflow(given)
    names = SimpleNamespace(trial="0", network="amn")
    assert {"methods.amn", "models.per_pixel"} <= plan.checkpoint_code(names).keys()
    other = Workflow({**given, "train_amn": {"backbone": {"name": "resnet34"}}})
    of = [one.method_code("infer")(_wildcards("amn")) for one in (plan, other)]
    assert of[0] == of[1]


def test_rules_of_the_version_before_are_named():
    plan = Workflow({"dataset": {"kind": "demo"}})
    with pytest.raises(InputError, match="no rule `train_cam` any more; write `train`"):
        plan.check_gpus({"train_cam": {"gpu": 2}})
