"""Thresholds that are chosen, and the stages and configuration that use them."""

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from workflow_scripts import (
    choose_thresholds,
    compare_thresholds,
    make_pseudo_masks,
    refine_seeds,
    validate_thresholds,
)
from workflow_scripts.datasets.index import IndexRow, read_index, write_index
from workflow_scripts.doors.threshold_rule import THRESHOLD_RULES, ThresholdSettings
from workflow_scripts.doors.usage import code_of, uses
from workflow_scripts.errors import InputError
from workflow_scripts.evaluation.run_results import RunFolder, source_key, threshold_of
from workflow_scripts.evaluation.threshold_sweep import (
    Sweeps,
    ThresholdSweep,
    even_thresholds,
    write_sweeps,
)
from workflow_scripts.evaluation.truth import read_truth
from workflow_scripts.fingerprint import code_digests
from workflow_scripts.planning.workflow import Workflow
from workflow_scripts.settings.refinement import SeedSettings
from workflow_scripts.storage.activations import ActivationReader, ActivationWriter
from workflow_scripts.storage.chosen_thresholds import (
    ChosenThresholds,
    read_thresholds,
    seed_thresholds,
)
from workflow_scripts.storage.masks import MaskReader, encode_mask

CLASSES = ("cat", "dog")
SIZE = 48


@pytest.fixture
def run_folder(tmp_path: Path) -> Path:
    """A run of eight images: a disc at 0.75 ± 0.1 on a background at 0.25 ± 0.1, without masks."""
    random = np.random.default_rng(0)
    folder = tmp_path / "results/tiny"
    rows, shards = [], {}
    rows_of, columns = np.mgrid[:SIZE, :SIZE]
    for split in ("train", "dev"):
        for i in range(4):
            labels = (CLASSES[:1], CLASSES[1:], CLASSES, ())[i]
            disc = (rows_of - 18) ** 2 + (columns - 30) ** 2 < 15**2
            image = np.where(disc[..., None], 200, 60) + random.normal(0, 8, (SIZE, SIZE, 3))
            name = f"{split}{i}"
            (folder / "dataset").mkdir(parents=True, exist_ok=True)
            Image.fromarray(image.clip(0, 255).astype(np.uint8)).save(
                folder / "dataset" / f"{name}.png"
            )
            truth = np.where(disc, CLASSES.index(labels[0]) + 1, 0) if labels else 0 * disc
            (folder / "dataset" / f"{name}-mask.png").write_bytes(
                encode_mask(truth.astype(np.uint8))
            )
            rows.append(
                IndexRow(name, f"{name}.png", SIZE, SIZE, split, labels, f"{name}-mask.png")
            )
            value = np.where(disc[2::4, 2::4], 0.75, 0.25) + random.normal(0, 0.05, (12, 12))
            channels = [value, value / 3][: len(labels)]
            shards.setdefault(split, []).append(
                np.stack(channels).clip(0, 1) if labels else np.zeros((0, 12, 12))
            )
    write_index(folder / "dataset/index.csv", CLASSES, rows)
    index = read_index(folder / "dataset/index.csv")
    for method in ("cam", "amn"):
        for split, arrays in shards.items():
            path = folder / "0" / method / "activations" / f"{split}-00.safetensors"
            records = index.of_split(split)
            with ActivationWriter(path, records) as writer:
                for record, array in zip(records, arrays, strict=True):
                    writer.write(record.id, array)
    return folder


def flags(folder: Path, split: str = "train") -> list[str]:
    return [
        "--index", str(folder / "dataset/index.csv"),
        "--activations", str(folder / f"0/cam/activations/{split}-00.safetensors"),
    ]  # fmt: skip


@pytest.mark.parametrize("rule", ["colours", "consensus", "contrast"])
def test_rules_split_two_modes_without_a_mask(run_folder: Path, rule: str) -> None:
    for mask in run_folder.rglob("*-mask.png"):
        mask.unlink()
    output = run_folder / "0/cam/auto/thresholds.json"
    assert (
        choose_thresholds.main([*flags(run_folder), "--output", str(output), "--rule", rule]) == 0
    )
    chosen = read_thresholds(output)
    assert 0.2 < chosen.pseudo_mask < 0.8
    assert chosen.rule == rule
    assert chosen.candidates[rule] == chosen.pseudo_mask
    assert chosen.seed_background < chosen.pseudo_mask < chosen.seed_foreground
    again = output.read_bytes()
    assert (
        choose_thresholds.main([*flags(run_folder), "--output", str(output), "--rule", rule]) == 0
    )
    assert output.read_bytes() == again


def test_tables_are_left_out_where_nothing_uses_them(run_folder: Path) -> None:
    read = {}
    for flag in ("--tables", "--no-tables"):
        output = run_folder / f"chosen{flag}.json"
        words = [*flags(run_folder), "--output", str(output), "--rule", "shrunken", flag]
        assert choose_thresholds.main(words) == 0
        read[flag] = read_thresholds(output)
    assert read["--tables"].classes and read["--tables"].images
    assert read["--no-tables"] == read["--tables"].with_tables({}, {})


def test_without_colours_to_separate_the_consensus_chooses(
    run_folder: Path, capsys: pytest.CaptureFixture
) -> None:
    for image in (run_folder / "dataset").glob("train?.png"):
        Image.fromarray(np.full((SIZE, SIZE, 3), 90, np.uint8)).save(image)
    output, by_colours = run_folder / "chosen.json", ["--rule", "colours"]
    assert choose_thresholds.main([*flags(run_folder), "--output", str(output), *by_colours]) == 0
    chosen = read_thresholds(output)
    assert chosen.rule == "consensus"
    assert "colours" not in chosen.candidates
    assert "no threshold separates the colours" in capsys.readouterr().err


def test_a_table_is_written_and_the_masks_follow_it(run_folder: Path) -> None:
    """Each labelled training image has a threshold of its own; another split has those of classes."""
    output = run_folder / "0/cam/auto/thresholds.json"
    chosen_by = ["--rule", "shrunken"]
    assert choose_thresholds.main([*flags(run_folder), "--output", str(output), *chosen_by]) == 0
    chosen = read_thresholds(output)
    assert chosen.images.keys() == {"train0", "train1", "train2"}
    assert chosen.classes.keys() == {"cat", "dog"}
    moved = replace(chosen, classes={"cat": 0.9}, images={"train0": 0.01})
    moved.write(output)
    for split, objects in (("train", True), ("dev", False)):
        place = ["--split", split, "--thresholds", str(output), "--refinement", "none"]
        masks = run_folder / f"{split}.zip"
        call = [*flags(run_folder, split), *place, "--output", str(masks)]
        assert make_pseudo_masks.main(call) == 0
        mask = MaskReader(masks).read(f"{split}0")
        assert (mask == 1).all() if objects else not mask.any()


def test_regions_decide_where_pseudo_masks_end(run_folder: Path, capsys) -> None:
    rows, columns = np.mgrid[:SIZE, :SIZE]
    disc = (rows - 18) ** 2 + (columns - 30) ** 2 < 15**2
    regions, masks = run_folder / "regions", run_folder / "masks.zip"
    for name in ("train0", "train1", "train2"):
        (regions / name).mkdir(parents=True)
        Image.fromarray(disc).save(regions / name / "0.png")
    flags_of = [
        *flags(run_folder),
        "--split",
        "train",
        "--threshold",
        "0.5",
        "--output",
        str(masks),
    ]
    call = [*flags_of, "--refinement", "none", "--regions-folder", str(regions)]
    assert make_pseudo_masks.main(call) == 0
    assert (MaskReader(masks).read("train0")[disc] == 1).all()
    assert not MaskReader(masks).read("train3").any()
    shutil.rmtree(regions / "train1")
    assert make_pseudo_masks.main(call) == 2
    assert "neither a folder train1/ nor a file train1.json" in capsys.readouterr().err


RULE = """
from workflow_scripts.doors.threshold_rule import ThresholdRule


class Rule(ThresholdRule):
    name = "{name}"
    reads_images = True
    finds_none = "it is a toy"

    def choose(self, statistics, sample):
        images = list(sample)
        assert images and all(image.pixels.shape[2] == 3 for image in images)
        assert all(len(image.activation) == len(image.labels) for image in images)
        return {chosen}
"""


@pytest.fixture
def plugged(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rules of plug-ins are gone after the test."""
    monkeypatch.setattr(THRESHOLD_RULES, "_plugged", {})


def test_a_rule_of_a_plug_in_chooses(
    run_folder: Path, plugged: None, capsys: pytest.CaptureFixture
) -> None:
    output = run_folder / "chosen.json"

    def choose(name: str, chosen: str) -> int:
        plugin = run_folder / f"{name}.py"
        plugin.write_text(RULE.format(name=name, chosen=chosen))
        words = ["--plugins", str(plugin), "--rule", name, "--output", str(output)]
        return choose_thresholds.main([*flags(run_folder), *words])

    assert choose("toy_middle", "float(statistics.thresholds[50])") == 0
    chosen = read_thresholds(output)
    assert (chosen.rule, chosen.pseudo_mask) == ("toy_middle", pytest.approx(0.505))
    assert list(chosen.candidates) == ["toy_middle", "contrast", "consensus"]
    assert choose("toy_none", "None") == 0
    assert read_thresholds(output).rule == "consensus"
    assert "toy_none: it is a toy: taken is that of consensus" in capsys.readouterr().err
    assert choose("toy_high", "1.5") == 2
    assert "`toy_high`: chose 1.5, expected a number between 0 and 1" in capsys.readouterr().err


def test_a_rule_that_there_is_not_is_named(run_folder: Path, capsys: pytest.CaptureFixture) -> None:
    words = ["--output", str(run_folder / "chosen.json"), "--rule", "colors"]
    assert choose_thresholds.main([*flags(run_folder), *words]) == 2
    message = capsys.readouterr().err
    assert "there is no threshold rule `colors`; did you mean `colours`?" in message


def test_the_code_of_the_rules_that_may_decide_counts() -> None:
    settings = ThresholdSettings(rule="colours", seed_rule="consensus")
    digests = code_of("choose_thresholds", uses(settings))
    assert {"threshold_rules.colours", "threshold_rules.consensus"} <= digests.keys()
    digests = code_of(
        "choose_thresholds", uses(ThresholdSettings(rule="entropy", seed_rule="entropy"))
    )
    assert "threshold_rules.consensus" in digests and "threshold_rules.colours" not in digests


def test_the_stage_cannot_reach_ground_truth() -> None:
    assert "evaluation.truth" not in code_of("choose_thresholds", uses(ThresholdSettings()))
    assert "evaluation.truth" in code_digests("validate_thresholds")


def test_validation_takes_the_best_on_its_split(run_folder: Path) -> None:
    output = run_folder / "validation.json"
    assert validate_thresholds.main([*flags(run_folder, "dev"), "--output", str(output)]) == 0
    chosen = read_thresholds(output)
    assert chosen.rule == "validation"
    index = read_index(run_folder / "dataset/index.csv")
    sweep = ThresholdSweep(2, even_thresholds(0.01))
    reader = ActivationReader(run_folder / "0/cam/activations/dev-00.safetensors")
    for record in index.of_split("dev"):
        activation = reader.read_full(record.id, record.height, record.width)
        sweep.update(record.id, activation, record.labels, read_truth(record))
    curve = sweep.curve()
    assert 100 * curve.miou_at(chosen.pseudo_mask) == pytest.approx(100 * curve.miou.max())


def test_seed_thresholds_near_the_published_constants() -> None:
    for threshold, foreground, background in ((0.15, 0.275, 0.075), (0.3, 0.425, 0.175)):
        chosen = ChosenThresholds.around(threshold, "otsu", 0.125, {})
        assert chosen.seed_foreground == pytest.approx(foreground)
        assert chosen.seed_background == pytest.approx(background)
    edge = ChosenThresholds.around(0.96, "otsu", 0.125, {})
    assert 0.96 < edge.seed_foreground < 1


def test_masks_and_seeds_take_chosen_thresholds(run_folder: Path) -> None:
    chosen = run_folder / "chosen.json"
    ChosenThresholds(0.5, 0.6, 0.4, "otsu", {}).write(chosen)
    shard = [*flags(run_folder), "--split", "train"]
    out = {name: run_folder / f"{name}.zip" for name in ("given", "chosen")}
    plain = [*shard, "--refinement", "none", "--output"]
    given = [*plain, str(out["given"]), "--threshold", "0.5"]
    assert make_pseudo_masks.main(given) == 0
    assert make_pseudo_masks.main([*plain, str(out["chosen"]), "--thresholds", str(chosen)]) == 0
    assert out["given"].read_bytes() == out["chosen"].read_bytes()
    assert make_pseudo_masks.main([*plain, str(out["given"])]) == 2
    seeds, composition = run_folder / "seeds.zip", run_folder / "seeds.json"
    named = ["--foreground-threshold", "auto", "--background-threshold", "auto"]
    write = ["--output", str(seeds), "--composition", str(composition), "--crf-iterations", "1"]
    assert refine_seeds.main([*shard, *named, *write, "--thresholds", str(chosen)]) == 0
    by_name = [MaskReader(seeds).read(i).tobytes() for i in MaskReader(seeds).ids]
    numbers = ["--foreground-threshold", "0.6", "--background-threshold", "0.4"]
    assert refine_seeds.main([*shard, *numbers, *write]) == 0
    assert by_name == [MaskReader(seeds).read(i).tobytes() for i in MaskReader(seeds).ids]
    assert refine_seeds.main([*shard, *named, *write]) == 2


def test_seed_thresholds_name_what_is_wrong(tmp_path: Path) -> None:
    auto = SeedSettings(foreground_threshold="auto", background_threshold="auto")
    with pytest.raises(InputError, match="give the file that choose_thresholds wrote"):
        seed_thresholds(auto, None)
    ChosenThresholds(0.3, 0.4, 0.2, "otsu", {}).write(tmp_path / "t.json")
    mixed = SeedSettings(foreground_threshold="auto", background_threshold=0.45)
    with pytest.raises(InputError, match="exceeds their foreground threshold"):
        seed_thresholds(mixed, tmp_path / "t.json")
    (tmp_path / "t.json").write_text('{"pseudo_mask": 2}')
    with pytest.raises(InputError, match="not a complete file of thresholds"):
        read_thresholds(tmp_path / "t.json")
    with pytest.raises(ValueError, match="cannot be mixed"):
        SeedSettings(foreground_threshold="auto", background_threshold="validation")


def test_sources_by_name(run_folder: Path) -> None:
    folder = RunFolder.of(run_folder, ["train-00"])
    assert folder.threshold(0, "cam", "auto") is None
    ChosenThresholds(0.42, 0.5, 0.3, "otsu", {}).write(run_folder / "0/cam/auto/thresholds.json")
    assert folder.threshold(0, "cam", "auto") == 0.42
    assert folder.threshold(0, "cam", "t0.30") == 0.3
    assert [source_key(s) for s in ("auto", "t0.30", "truth")] == ["auto", "0.30", "truth"]
    assert threshold_of("validation") is None
    with pytest.raises(InputError, match="expected `auto`"):
        threshold_of("automatic")


DEMO = {"dataset": {"kind": "demo"}}


def test_configuration_names_thresholds() -> None:
    plan = Workflow({**DEMO, "thresholds": ["auto", 0.5]})
    assert plan.sources == ["auto", "t0.50"]
    with pytest.raises(InputError, match=r"splits\.thresholds"):
        Workflow({**DEMO, "thresholds": ["validation"]})
    with pytest.raises(InputError, match="also trained or reported on"):
        Workflow({**DEMO, "thresholds": ["validation"], "splits": {"thresholds": ["val"]}})
    with pytest.raises(InputError, match="thresholds"):
        Workflow({**DEMO, "thresholds": ["automatic"]})
    voc = {"dataset": {"kind": "voc12"}, "splits": {"thresholds": ["train_aug"]}}
    plan = Workflow({**voc, "thresholds": ["validation"]})
    assert plan.sources == ["validation"]


def test_rules_are_compared_with_the_best(run_folder: Path, capsys: pytest.CaptureFixture) -> None:
    index = read_index(run_folder / "dataset/index.csv")
    for method in ("cam", "amn"):
        sweep = ThresholdSweep(2, even_thresholds(0.01))
        reader = ActivationReader(run_folder / f"0/{method}/activations/train-00.safetensors")
        for record in index.of_split("train"):
            activation = reader.read_full(record.id, record.height, record.width)
            sweep.update(record.id, activation, record.labels, read_truth(record))
        write_sweeps(run_folder / f"0/{method}/sweep/train-00.safetensors", Sweeps(sweep, None))
    configuration = Workflow({**DEMO, "run": "tiny"}).configuration
    (run_folder / "config.yaml").write_text(configuration)
    out = run_folder / "rules.csv"
    assert compare_thresholds.main(["--run", str(run_folder), "--out", str(out)]) == 0
    lines = out.read_text().splitlines()
    assert lines[0].startswith("run,trial,method,split,rule,threshold,miou")
    assert all(float(line.rsplit(",", 1)[1]) >= 0 for line in lines[1:])
    shown = capsys.readouterr().out
    for rule in ("colours", "consensus", "given 0.30", "given 0.50"):
        assert rule in shown
    # What a run of two shards and one of another method left behind is not looked at.
    for method in ("cam", "amn"):
        for kind in ("activations", "sweep"):
            first = run_folder / "0" / method / kind / "train-00.safetensors"
            shutil.copy(first, first.with_name("train-01.safetensors"))
    shutil.copytree(run_folder / "0/amn", run_folder / "0/older")
    again = run_folder / "again.csv"
    words = ["--run", str(run_folder)]
    assert compare_thresholds.main([*words, "--out", str(again)]) == 0
    assert again.read_text() == out.read_text()
    assert compare_thresholds.main([*words, "--split", "dev"]) == 2
    assert "dev-00.safetensors" in capsys.readouterr().err
    assert compare_thresholds.main(["--run", str(run_folder / "dataset")]) == 2
