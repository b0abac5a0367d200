"""What the rules ask of a configuration."""

import os
import shlex
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from workflow_scripts.errors import InputError
from workflow_scripts.planning.environments import (
    ENVS,
    PYTHON,
    pinned,
    render_conda,
    set_environment,
)
from workflow_scripts.planning.workflow import Workflow


def plan(**values: Any) -> Workflow:
    return Workflow({"dataset": {"kind": "demo"}, **values})


def wildcards(**values: str) -> Any:
    return SimpleNamespace(**values)


def test_a_mistake_is_an_input_error():
    with pytest.raises(InputError, match="did you mean `trials`"):
        plan(trial=3)


@pytest.mark.parametrize(
    "dataset, has, lacks",
    [
        ({"kind": "demo"}, ("train", "val"), "test"),
        ({"kind": "coco14"}, ("train", "val"), "train_aug"),
        ({"kind": "voc12"}, ("train", "val", "train_aug"), "test"),
        ({"kind": "voc12", "augmented": False}, ("train", "val"), "train_aug"),
        ({"kind": "voc12", "root": "/voc", "test_images": True}, ("train_aug", "test"), "trainval"),
    ],
)
def test_splits_that_a_dataset_will_not_have_are_refused_before_it_is_made(
    dataset: dict[str, Any], has: tuple[str, ...], lacks: str
) -> None:
    for use in ("training", "activations", "segmentation"):
        plan(dataset=dataset, splits={use: has})
        with pytest.raises(
            InputError, match=rf"splits\.{use}: .* no split `{lacks}`; it has train, "
        ):
            plan(dataset=dataset, splits={use: [*has, lacks]})


def test_splits_of_tables_are_known_once_they_are_read():
    plan(dataset={"kind": "folder", "root": "photos"}, splits={"training": ["mine"]})


def test_paths_of_a_run():
    made = plan(run="mine", results="/big/disk")
    assert made.index == "/big/disk/mine/dataset/index.csv"
    assert made.path("{trial}", "cam") == "/big/disk/mine/{trial}/cam"
    assert made.log("train", "{trial}").startswith("/big/disk/mine/logs/train/")
    assert made.benchmark("summarise").endswith("benchmarks/summarise/summarise.tsv")


def test_shards_are_named_in_order_and_once():
    assert plan().shards("train", "val") == ["train-00", "val-00"]
    assert plan(shards=2).shards("val", "val") == ["val-00", "val-01"]
    many = plan(shards=101).shards("train")
    assert many == sorted(many) and many[0] == "train-000" and many[-1] == "train-100"
    names = wildcards(shard="train_aug-07")
    assert plan(shards=12).shard_flags(names) == "--split train_aug --shard 7 --shards 12"


def test_judge_is_given_the_shards_of_its_split():
    made = plan(shards=2, methods=["cam"], thresholds=[0.5])
    folder = "results/demo/0/cam/t0.50/pseudo_masks"
    assert made.judged_masks == [f"{folder}/train-00.zip", f"{folder}/train-01.zip"]
    flags = f"--masks {folder} --names 0/cam/t0.50 --split train --shards train-00 train-01"
    assert made.judged_flags == flags
    files = [Path(file).name for file in (*made.judged, *made.judged_tables)]
    assert files == ["judged.json", "sets.csv", "classes.csv", "images.csv"]
    assert plan(methods=["full"]).judged_tables == []


def test_every_trial_has_its_own_seed():
    made = plan(seed=10, trials=3, splits={"training": ["train", "val"]})
    flags = [made.training_flags(wildcards(trial=str(trial))) for trial in made.trials]
    assert flags == [f"--splits train val --seed {seed}" for seed in (10, 11, 12)]


def test_sources_are_named_by_their_threshold():
    made = plan(thresholds=[0.5, 0.254, "auto"])
    assert made.sources == ["t0.50", "t0.25", "auto"]
    assert made.threshold_flags(wildcards(source="t0.25")) == "--threshold 0.254"
    chosen = made.threshold_flags(wildcards(source="auto", trial="1", method="amn"))
    assert chosen == "--thresholds results/demo/1/amn/auto/thresholds.json"


def test_dataset_flags_begin_with_the_kind():
    words = shlex.split(plan().dataset_flags)
    assert words[0] == "demo" and "--kind" not in words
    assert words[words.index("--train-images") + 1] == "400"


def test_flags_of_variants_and_of_seeds():
    made = plan(
        variants={"plain": {"balance": False}},
        methods=["cam", "amn", "plain"],
        refine_seeds={"cam": {"foreground_threshold": 0.6}},
    )
    assert "--no-balance" in made.method_flags(wildcards(method="plain"))
    assert "--balance" in made.method_flags(wildcards(method="amn"))
    assert "--foreground-threshold 0.6 " in made.seed_flags(wildcards(method="cam"))
    assert "--foreground-threshold 0.45 " in made.seed_flags(wildcards(method="plain"))


def test_variants_share_the_stage_of_the_cam():
    made = plan(variants={"plain": {"balance": False}}, methods=["cam", "amn", "plain"], shards=2)
    seeds = made.source_training_seeds(wildcards(trial="1", method="plain"))
    assert seeds == [f"results/demo/1/cam/seeds/train-0{shard}.zip" for shard in (0, 1)]
    own = made.own_training_seeds(wildcards(trial="1", method="plain"))
    assert own[0] == "results/demo/1/plain/seeds/train-00.zip"


def test_networks_of_a_study():
    """Two methods at two thresholds and the full reference once, for each trial."""
    made = plan(methods=["cam", "amn", "full"], thresholds=[0.5, 0.3], trials=2)
    assert len(made.networks) == 2 * (2 * 2 + 1)
    assert "results/demo/1/full/truth/segmentation/model.safetensors" in made.networks
    assert made.methods == ["cam", "amn"]
    assert made.training_masks(wildcards(trial="0", method="full", source="truth")) == []
    assert len(set(made.predictions)) == len(made.predictions) == 10


def test_full_alone_is_no_method_with_activations():
    assert not any("/full/" in path for path in plan().networks)
    made = plan(methods=["cam", "full"])
    assert not any("/full/" in path and "seeds" in path for path in made.evaluations)


def test_evaluations_of_the_demo():
    evaluations = plan().evaluations
    assert len(set(evaluations)) == len(evaluations)
    for method in ("cam", "amn"):
        for shard in ("train-00", "val-00"):
            folder = f"results/demo/0/{method}"
            assert f"{folder}/seeds/{shard}.json" in evaluations
            assert f"{folder}/sweep/{shard}.safetensors" in evaluations
            assert f"{folder}/t0.50/evaluation/pseudo_masks/{shard}.json" in evaluations
        assert f"{folder}/t0.50/evaluation/segmentation/val-00.json" in evaluations
        assert f"{folder}/t0.50/evaluation/segmentation/train-00.json" not in evaluations


def test_without_masks_nothing_is_compared_with_the_truth(tmp_path: Path):
    made = plan(masks=False)
    assert all("/seeds/" in path for path in made.evaluations)
    assert made.networks
    folder = {"kind": "folder", "root": str(tmp_path)}
    assert not plan(dataset=folder).has_masks
    (tmp_path / "masks").mkdir()
    assert not plan(dataset=folder).has_masks
    (tmp_path / "masks" / "cat.PNG").touch()
    assert plan(dataset=folder).has_masks
    assert not plan(dataset=folder, masks=False).has_masks


def test_boundaries_slot_in_between_activations_and_masks():
    names = wildcards(trial="0", method="amn", shard="val-00", source="t0.50")
    assert "/activations/" in plan().refined_activations(names)
    assert "/propagated/" in plan(boundary={"enabled": True}).refined_activations(names)


def test_files_of_weights_are_inputs(tmp_path: Path):
    """Missing ones are not: the stage says what to do about them."""
    file = tmp_path / "weights.pth"
    given = {"backbone": {"weights": str(file)}}
    made = plan(train_cam=given, variants={"mine": given}, boundary={"train": given})
    cam, amn, mine = (wildcards(method=name) for name in ("cam", "amn", "mine"))
    assert made.method_weights(cam) == made.method_weights(mine) == []
    file.write_text("one")
    assert made.method_weights(cam) == made.weights("boundary", "train")(amn) == [str(file)]
    assert made.method_weights(mine) == [str(file)]
    assert made.method_weights(amn) == made.weights("train_segmentation")(amn) == []
    state = made.weights_state(made.method_weights)
    before = state(cam)
    file.write_text("other")
    assert state(cam) != before


def test_a_change_of_regions_is_a_change_of_a_parameter(tmp_path: Path):
    """Each file counts, the folder's own time does not."""
    assert plan().region_state(wildcards()) == []
    inner = tmp_path / "a"
    inner.mkdir()

    def state() -> list[str]:
        masks = {"regions": {"folder": str(tmp_path)}}
        return plan(pseudo_masks=masks).region_state(wildcards(shard="train-00"))

    states = [state()]
    (inner / "0.png").write_text("one")
    states.append(state())
    folder = tmp_path.stat()
    (inner / "0.png").write_text("other")
    states.append(state())
    (tmp_path / "b.json").write_text("[]")
    os.utime(tmp_path, ns=(folder.st_atime_ns, folder.st_mtime_ns))
    states.append(state())
    (tmp_path / "notes.txt").write_text("nothing that is read")
    assert state() == states[-1]
    (inner / "0.png").unlink()
    states.append(state())
    assert len({*map(tuple, states)}) == len(states)


def test_a_change_of_regions_makes_a_file_newer(tmp_path: Path):
    """Under `--rerun-triggers mtime` times alone count."""
    (tmp_path / "regions/a").mkdir(parents=True)
    region = tmp_path / "regions/a/0.png"
    region.write_text("one")

    def recorded() -> tuple[str, int]:
        masks = {"regions": {"folder": str(tmp_path / "regions")}}
        made = plan(results=str(tmp_path), pseudo_masks=masks)
        made.record_state()
        [file] = made.recorded_regions
        return Path(file).read_text(), Path(file).stat().st_mtime_ns

    before = recorded()
    assert recorded() == before
    region.write_text("other")
    text, time = recorded()
    assert text != before[0] and time > before[1]
    assert plan().recorded_regions == []


def test_a_refined_sweep_is_that_of_the_run_but_for_the_refinement():
    made = plan(sweep={"refinement": "crf", "refined_thresholds": [0.25]})
    given = wildcards(trial="1", method="amn", refinement="par")
    flags = made.refined_sweep_flags(given)
    assert "--refinement par" in flags and "--refined-thresholds 0.25" in flags
    assert flags.endswith(f"--thresholds {made.path('1', 'amn', 'auto', 'thresholds.json')}")
    assert "--refinement crf" in made.flags("sweep")


def test_masks_that_are_evaluated():
    made = plan()
    assert made.evaluated_masks(wildcards(kind="pseudo_masks")).endswith(
        "/pseudo_masks/{shard}.zip"
    )
    predictions = made.evaluated_masks(wildcards(kind="segmentation"))
    assert predictions.endswith("/segmentation/predictions/{shard}.zip")


def test_conda_environment_is_in_step_with_the_requirements():
    expected = render_conda(pinned(ENVS / "requirements.txt"))
    assert (ENVS / "environment.yaml").read_text() == expected


def test_every_requirement_is_pinned():
    for name in ("requirements.txt", "requirements-dev.txt"):
        requirements = pinned(ENVS / name)
        assert requirements and all("==" in line for line in requirements)


def test_container_installs_the_requirements_and_nothing_else():
    recipe = (ENVS / "Dockerfile").read_text()
    assert f"FROM python:{PYTHON}-slim" in recipe
    assert "COPY envs/requirements.txt /tmp/requirements.txt" in recipe
    installs = [line for line in recipe.splitlines() if "pip install" in line]
    assert installs == ["RUN pip install --no-cache-dir -r /tmp/requirements.txt"]
    assert "==" not in recipe


def test_the_report_reads_one_trial_and_the_first_source():
    made = plan(trials=2, thresholds=[0.5, "auto"], methods=["cam", "amn", "full"], shards=2)
    files = made.report_files
    shards = [f"{split}-0{number}" for split in ("train", "val") for number in (0, 1)]
    seeds = [f"results/demo/0/{m}/seeds/{shard}.zip" for m in ("cam", "amn") for shard in shards]
    assert files.seeds == seeds
    assert files.pseudo_masks == [
        file.replace("/seeds/", "/t0.50/pseudo_masks/") for file in files.seeds
    ]
    assert sorted(files.predictions) == sorted(
        f"results/demo/0/{place}/segmentation/predictions/val-0{number}.zip"
        for place in ("cam/t0.50", "amn/t0.50", "full/truth")
        for number in (0, 1)
    )
    assert files.chosen_thresholds == [
        f"results/demo/{trial}/{m}/auto/thresholds.json" for trial in (0, 1) for m in ("cam", "amn")
    ]
    # CAM, AMN, and a network for each of two sources and two methods, and on true masks; twice.
    assert len(files.histories) == len(set(files.histories)) == 2 * (2 + 4 + 1)


def test_without_masks_the_report_reads_no_sweeps_and_the_training_masks():
    files = plan(masks=False).report_files
    assert files.sweeps == []
    assert all("/train-" in file for file in files.pseudo_masks)
    assert any("/val-" in file for file in files.activations)


def test_on_one_machine_there_are_no_more_shards_than_it_works_on_at_a_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    from workflow_scripts.planning import sharing

    gpus: list[str] = []
    monkeypatch.setattr(sharing, "visible_gpus", lambda: gpus)
    monkeypatch.setattr(sharing.os, "sched_getaffinity", lambda _: set(range(8)), raising=False)
    common = {"results": str(tmp_path), "threads": {"refinement": 2}, "shards": 16}

    def shards(run: str, **more: Any) -> int:
        made = plan(run=run, **common | more)
        made.record_parts()
        assert f'"shards":{made.settings.shards},' in made.configuration
        return len(made.shards("train"))

    assert shards("a", one_machine=True) == 4
    assert shards("few", one_machine=True, shards=3) == 3
    assert shards("cluster") == 16
    gpus += ["0", "1", "2", "3", "4", "5"]
    assert shards("b", one_machine=True) == 6
    # What a run was cut into stays on one machine; elsewhere what is asked for counts.
    assert shards("a", one_machine=True) == 4
    assert shards("a", one_machine=True, shards=4) == shards("a", one_machine=True) == 4
    assert shards("cluster", one_machine=True) == 16
    assert shards("a") == shards("a", one_machine=True) == 16
    assert shards("a", one_machine=True, shards=2) == 2
    (tmp_path / "a" / "shards.json").write_text("{}")
    with pytest.raises(InputError, match=r"shards\.json: not readable"):
        plan(run="a", one_machine=True, **common)
    assert shards("a") == 16


def test_planning_alone_cuts_no_run_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A dry run on one machine leaves no record, and a run of the cluster is left as it is cut."""
    monkeypatch.setattr("workflow_scripts.planning.run_layout.parts_at_a_time", lambda *_: 2)
    common = {"results": str(tmp_path), "run": "r", "shards": 16}
    made = plan(one_machine=True, **common)
    made.record_state()
    assert len(made.shards("train")) == 2
    assert not (tmp_path / "r" / "shards.json").exists()
    folder = tmp_path / "r/0/cam/activations"
    folder.mkdir(parents=True)
    (folder / "train-15.safetensors").touch()
    assert len(plan(one_machine=True, **common).shards("train")) == 16
    assert len(plan(one_machine=True, **common | {"shards": 8}).shards("train")) == 2


@pytest.mark.parametrize(
    ("given", "expected"), [({}, "PASSIVE"), ({"OMP_WAIT_POLICY": "ACTIVE"}, "ACTIVE")]
)
def test_idle_threads_of_jobs_sleep_unless_the_user_says_otherwise(monkeypatch, given, expected):
    monkeypatch.setattr(os, "environ", {"PYTHONPATH": "/mine", **given})
    set_environment("/checkout")
    assert os.environ == {"PYTHONPATH": f"/checkout{os.pathsep}/mine", "OMP_WAIT_POLICY": expected}
    with pytest.raises(InputError, match="rename the folder"):
        set_environment("/odd{path}")
