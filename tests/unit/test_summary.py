import csv
import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from workflow_scripts import summarise
from workflow_scripts.datasets.index import IndexRow, write_index
from workflow_scripts.evaluation.confusion import Confusion, EvaluationWriter
from workflow_scripts.evaluation.summary import (
    MethodResults,
    SourceResults,
    figure,
    flatten,
    summarise_method,
    sweep_figures,
)
from workflow_scripts.evaluation.threshold_sweep import (
    RefinedSweep,
    Sweeps,
    ThresholdSweep,
    write_sweeps,
)
from workflow_scripts.storage.masks import SeedPixels

CLASSES = ("cat", "dog")
TRUTH = np.array([[0, 0, 1, 1], [0, 0, 1, 1], [0, 0, 2, 2], [0, 0, 2, 2]], np.uint8)


def confusion(wrong: int) -> Confusion:
    """Truth against itself with the first `wrong` pixels predicted as dog."""
    prediction = TRUTH.copy()
    prediction.ravel()[:wrong] = 2
    return Confusion.empty(2).update(TRUTH, prediction)


def flat(*values: float) -> np.ndarray:
    """Channels of one value."""
    return np.tile(np.array(values, np.float32)[:, None, None], (1, *TRUTH.shape))


def sweeps(bias: float) -> Sweeps:
    plain = ThresholdSweep(2, np.array([0.2, 0.4, 0.6, 0.8]))
    refined = RefinedSweep(2, [0.3, 0.7])
    for i in range(3):
        activation = flat(0.9 - bias - i / 10, 0.3 + bias)
        plain.update(str(i), activation, (1, 2), TRUTH)
        refined.update(TRUTH, np.stack([TRUTH, np.zeros_like(TRUTH)]))
    return Sweeps(plain, refined)


def trial(bias: float, wrong: int) -> MethodResults:
    return MethodResults(
        sweeps={"val": sweeps(bias)},
        seed_pixels={"train": SeedPixels(6, 3, 1)},
        seeds={"train": confusion(wrong)},
        sources={
            "0.50": SourceResults(0.5, {"train": confusion(wrong)}, {"val": confusion(wrong)}),
            "0.30": SourceResults(0.3, {"train": confusion(2 * wrong)}, {"val": confusion(4)}),
        },
    )


def test_figure_has_the_sample_deviation() -> None:
    assert figure([2.0, 4.0, 9.0]) == {
        "mean": 5.0,
        "std": pytest.approx(np.sqrt(13)),
        "values": [2.0, 4.0, 9.0],
    }
    assert figure([2.0]) == {"mean": 2.0, "std": None, "values": [2.0]}
    assert figure([2.0, float("nan")]) is None
    assert figure([]) is None


def test_structure_is_the_contract() -> None:
    summary = summarise_method([trial(0.0, 1), trial(0.1, 2)], CLASSES)
    assert list(summary) == ["activations", "seeds", "pseudo_masks", "segmentation", "by_threshold"]
    assert set(summary["activations"]["val"]) == {
        "best_miou", "best_threshold", "mean_miou", "plateau", "image_miou_global",
        "image_miou_oracle", "foreground_cv", "gap", "regret", "refined_best_miou",
        "refined_mean_miou",
    }  # fmt: skip
    assert set(summary["seeds"]["train"]) == {
        "background", "foreground", "ignored", "miou_confident",
    }  # fmt: skip
    assert summary["seeds"]["train"]["foreground"]["mean"] == 0.3
    assert set(summary["pseudo_masks"]["train"]) == {"miou", "threshold"}
    assert summary["pseudo_masks"]["train"]["threshold"]["values"] == [0.5, 0.5]
    assert set(summary["segmentation"]["val"]) == {"miou", "per_class"}
    assert list(summary["segmentation"]["val"]["per_class"]) == ["background", "cat", "dog"]
    assert list(summary["by_threshold"]) == ["0.50", "0.30"]
    first = summary["by_threshold"]["0.50"]
    assert first["pseudo_masks"] == summary["pseudo_masks"]
    assert first["segmentation"] == summary["segmentation"]
    values = summary["segmentation"]["val"]["miou"]["values"]
    assert values == [100 * confusion(w).mean_iou("wrong") for w in (1, 2)]
    json.dumps(summary, allow_nan=False)


def test_what_was_not_computed_is_absent() -> None:
    full = MethodResults(sources={"truth": SourceResults(segmentation={"val": confusion(0)})})
    summary = summarise_method([full], CLASSES)
    assert list(summary) == ["segmentation"]
    assert summary["segmentation"]["val"]["miou"] == {"mean": 100, "std": None, "values": [100]}
    never = Confusion.empty(2).update(TRUTH * 0, TRUTH * 0)
    alone = MethodResults(sources={"truth": SourceResults(segmentation={"val": never})})
    per_class = summarise_method([alone], CLASSES)["segmentation"]["val"]["per_class"]
    assert list(per_class) == ["background"]
    assert summarise_method([MethodResults()], CLASSES) == {}


def test_regret_belongs_to_what_is_thresholded() -> None:
    given = trial(0.0, 1)
    with_boundaries = dataclasses.replace(given, propagated_sweeps={"val": sweeps(0.2)})
    plain, propagated = (summarise_method([t], CLASSES) for t in (given, with_boundaries))
    assert "propagated" not in plain and "regret" in plain["activations"]["val"]
    assert "regret" not in propagated["activations"]["val"]
    assert propagated["propagated"]["val"].keys() == plain["activations"]["val"].keys()
    assert {row["section"] for row in flatten({"amn": propagated})} >= {"activations", "propagated"}


def test_a_split_without_any_truth_has_no_figures() -> None:
    nothing = ThresholdSweep(2, np.array([0.5]))
    empty = Confusion.empty(2)
    blind = MethodResults(
        sweeps={"train": Sweeps(nothing, None), "val": sweeps(0.0)},
        seeds={"train": empty},
        sources={"0.50": SourceResults(0.5, {"train": empty}, {"train": empty})},
    )
    summary = summarise_method([blind], CLASSES)
    assert summary["activations"].keys() == {"val"}
    assert "seeds" not in summary and "segmentation" not in summary
    json.dumps(summary, allow_nan=False)


def test_sweep_figures_by_hand() -> None:
    plain = ThresholdSweep(2, np.array([0.1, 0.5, 0.9]))
    small, large = flat(0.3), flat(0.7)
    everything = np.ones((4, 4), np.uint8)
    plain.update("a", large, (1,), everything)
    plain.update("b", small, (1,), np.where(TRUTH == 2, 255, 0).astype("u1"))
    figures = sweep_figures(Sweeps(plain, None), 0.5)
    # At 0.5: "a" is found whole and "b" left alone; at 0.1 the background of "b" leaks.
    assert figures["best_miou"] == 100
    assert figures["best_threshold"] == 0.5
    assert figures["mean_miou"] == pytest.approx(
        100 * (((0 + 16 / 28) / 2) + 1 + (12 / 28) / 2) / 3
    )
    assert figures["plateau"] == pytest.approx(1 / 3)
    assert figures["image_miou_global"] == figures["image_miou_oracle"] == 100
    assert figures["foreground_cv"] == pytest.approx(0, abs=1e-6)
    assert np.isnan(figures["gap"])
    assert figures["regret"] == 0
    assert "refined_best_miou" not in figures


def test_table_holds_every_figure_once() -> None:
    methods = {"cam": summarise_method([trial(0.0, 1), trial(0.1, 2)], CLASSES)}
    rows = list(flatten(methods))
    assert len(rows) == 11 + 4 + 2 + 1 + 3 + 2 * (2 + 1 + 3)
    dog = next(row for row in rows if row["class"] == "dog" and row["threshold"] == "0.30")
    assert dog["section"] == "segmentation"
    assert dog["std"] == 0
    assert len(dog["values"].split(";")) == 2


def make_run(folder: Path) -> list[str]:
    rows = [IndexRow(str(i), "x", 4, 4, s, ["cat"], "m") for i, s in enumerate(["train", "val"])]
    write_index(folder / "dataset/index.csv", CLASSES, rows)
    for number in (0, 1):
        for method, wrong in (("cam", 3), ("amn", 1)):
            place = folder / str(number) / method
            (place / "seeds").mkdir(parents=True)
            composition = {"background": 6, "foreground": 3, "ignored": 1, "images": 4}
            (place / "seeds/train-00.json").write_text(json.dumps(composition))
            for shard in ("train-00", "val-00", "val-01"):
                write_sweeps(place / f"sweep/{shard}.safetensors", sweeps(wrong / 10))
            for kind in (
                "evaluation/seeds/train-00",
                "t0.50/evaluation/pseudo_masks/train-00",
                "t0.50/evaluation/segmentation/val-00",
                "t0.50/evaluation/segmentation/val-01",
            ):
                with EvaluationWriter(place / f"{kind}.json", CLASSES) as writer:
                    for i in range(4):
                        writer.write(f"{kind} {i}", confusion(wrong + number))
    benchmarks = folder / "benchmarks"
    (benchmarks / "train_cam").mkdir(parents=True)
    for name, seconds in (("train_cam/0", 3.5), ("train_cam/1", 4.0), ("summarise", 1.0)):
        (benchmarks / f"{name}.tsv").write_text(f"s\th:m:s\n{seconds}\t0:00:00\n")
    words = ["--run", str(folder), "--index", str(folder / "dataset/index.csv")]
    words += ["--dataset", "demo", "--trials", "0", "1", "--methods", "cam", "amn"]
    words += ["--sources", "t0.50", "--shards", "train-00", "val-00", "val-01"]
    words += ["--benchmarks", str(benchmarks)]
    for name in ("summary", "table", "curves", "differences"):
        words += [f"--{name}", str(folder / name)]
    return words


def read_rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


def test_stage_writes_the_contract(tmp_path: Path) -> None:
    folder = tmp_path / "demo"
    assert summarise.main(make_run(folder)) == 0
    summary = json.loads((folder / "summary").read_text())
    assert list(summary) == [
        "run", "dataset", "classes", "images", "trials", "refinement", "seconds", "methods",
    ]  # fmt: skip
    assert summary["run"] == "demo"
    assert summary["images"] == {"train": 1, "val": 1}
    assert summary["trials"] == 2
    assert summary["seconds"] == {"summarise": 1.0, "train_cam": 7.5}
    amn = summary["methods"]["amn"]
    assert amn["segmentation"]["val"]["miou"]["values"] == [
        pytest.approx(100 * confusion(wrong).mean_iou("wrong")) for wrong in (1, 2)
    ]
    assert set(amn["activations"]) == {"train", "val"}
    curves = read_rows(folder / "curves")
    assert len(curves) == 2 * 2 * 2 * (4 + 2)
    assert [row["threshold"] for row in curves[:6]] == ["0.2", "0.3", "0.4", "0.6", "0.7", "0.8"]
    assert curves[0]["refined_miou"] == ""
    assert curves[1]["miou"] == ""
    assert float(curves[1]["refined_miou"]) == pytest.approx(100)
    differences = read_rows(folder / "differences")
    assert len(differences) == 2 * 2
    assert all(float(row["difference"]) > 0 for row in differences)
    assert {row["section"] for row in differences} == {"pseudo_masks", "segmentation"}
    assert len(read_rows(folder / "table")) == 2 * (2 * 11 + 4 + 2 * (2 + 1 + 3))


def test_stage_names_what_is_missing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "demo"
    words = make_run(folder)
    assert summarise.main([*words, "--methods", "cam", "other"]) == 2
    assert "no results of method 'other'" in capsys.readouterr().err
    assert summarise.main([*words, "--sources", "0.50"]) == 2
    assert "source '0.50'" in capsys.readouterr().err
    lost = folder / "1/amn/t0.50/evaluation/segmentation/val-01.json"
    lost.unlink()
    assert summarise.main(words) == 2
    assert str(lost) in capsys.readouterr().err
    assert not (folder / "summary").exists()


def test_what_another_configuration_left_is_not_read(tmp_path: Path) -> None:
    folder = tmp_path / "demo"
    words = make_run(folder)

    def summarised(*more: str) -> dict[str, Any]:
        assert summarise.main([*words, *more]) == 0
        summary = json.loads((folder / "summary").read_text())
        return summary["methods"]["amn"]

    clean = summarised()
    for number in (0, 1):
        for shard in ("train-00", "val-00", "val-01"):
            path = folder / f"{number}/amn/propagated_sweep/{shard}.safetensors"
            write_sweeps(path, sweeps(0.4))
    # Boundaries were learnt once and no longer are.
    assert summarised() == clean and "regret" in clean["activations"]["val"]
    assert "propagated" in summarised("--propagated")
    # Splits that are no longer evaluated, and masks that are gone.
    split = summarised("--shards", "train-00", "--segmentation-shards", "val-00", "val-01")
    assert set(split["activations"]) == {"train"}
    assert split["segmentation"] == clean["segmentation"]
    assert set(summarised("--no-masks")) == {"seeds"}
    assert len(read_rows(folder / "curves")) == len(read_rows(folder / "differences")) == 0
    summarised("--jobs", "train_cam/0")
    assert json.loads((folder / "summary").read_text())["seconds"] == {"train_cam": 3.5}
