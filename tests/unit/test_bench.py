"""The benchmarks run, agree and report what they promise; how fast they are is not tested."""

import json

import pytest

from tools import bench
from tools.benchmarks.comparison import Comparison
from tools.benchmarks.peak_memory import own_peak, peak_of
from tools.benchmarks.table import BEGIN, END

CONTRACT = {
    "reference", "ours", "ratio", "ratio_min", "ratio_max", "agreement", "unit", "n",
}  # fmt: skip
SMALL = {
    "dense_crf_seeds": {"images": 1, "height": 41, "width": 53},
    "pixel_adaptive": {"images": 1, "height": 41, "width": 53},
    "dense_crf_21": {"images": 1, "height": 33, "width": 48, "labels": 7},
    "random_walk": {"height": 13, "width": 11},
    "threshold_sweep": {"images": 3, "height": 41, "width": 53},
    "infer_cam_resnet50": {"height": 33, "width": 50, "scales": (1.0,)},
    "train_amn_resnet50": {"crop": 33, "batch": 1},
    "activation_storage": {"images": 2, "height": 63, "width": 77},
    **{f"host_{stage}": {"images": 2, "height": 63, "width": 77} for stage in bench.HOST_SECONDS},
    "overlap_infer_cam": {"images": 3, "height": 41, "width": 53},
    "overlap_evaluate_segmentation": {"images": 3, "height": 41, "width": 53},
}


def faked(*pairs: tuple[float, float], growth: bool = False) -> Comparison:
    return Comparison(list(pairs), "seconds", 0.9995, "equal labels", "a note", growth)


@pytest.mark.parametrize("name", SMALL)
def test_runs_small_and_agrees(name):
    if name.startswith("dense_crf"):
        pytest.importorskip("pydensecrf.densecrf")
    entry = bench.measure(name, 1, SMALL[name])
    assert entry.keys() >= CONTRACT
    assert entry["n"] >= 1
    assert entry["ratio_min"] <= entry["ratio"] <= entry["ratio_max"]
    assert entry["agreement_met"]


def test_each_benchmark_has_a_target_and_a_small_size():
    assert set(bench.TARGETS) - {"memory_growth"} == set(SMALL)


def test_a_missed_target_says_by_how_much():
    entry = bench.judged(faked((6, 2), (9, 3), (4, 2)), bench.Target(4, 0.999))
    assert (entry["ratio"], entry["ratio_min"], entry["ratio_max"]) == (3, 2, 3)
    assert (entry["reference"], entry["ours"], entry["n"]) == (6, 2, 3)
    assert not entry["target_met"]
    assert entry["missed_by"] == pytest.approx(0.25)
    assert entry["agreement_met"]


def test_an_amount_is_kept_by_ours_whatever_the_ratio():
    target = bench.Target(1, amount=0.012)
    assert bench.judged(faked((0.075, 0.011)), target)["target_met"]
    entry = bench.judged(faked((0.075, 0.018)), target)
    assert not entry["target_met"] and entry["missed_by"] == pytest.approx(0.5)


def test_growth_is_judged_by_its_worst():
    limit = bench.Target(1.1, None, is_limit=True)
    assert bench.judged(faked((100, 105), (100, 101), growth=True), limit)["target_met"]
    worst = bench.judged(faked((100, 121), (100, 101), (100, 100), growth=True), limit)
    assert worst["ratio"] == pytest.approx(1.01)
    assert worst["missed_by"] == pytest.approx(0.1)


def test_peak_memory_is_that_of_the_stages_own_process(tmp_path):
    ballast = bytearray(300_000_000)
    flags = ("demo", "--output", tmp_path, "--train-images", 1, "--val-images", 1)
    peak = peak_of("prepare_dataset", *flags, "--image-size", 64)
    assert (tmp_path / "index.csv").is_file()
    assert 10_000_000 < peak < len(ballast) < own_peak()


def test_a_failed_stage_is_no_measurement(tmp_path):
    with pytest.raises(RuntimeError, match="evaluate_masks"):
        peak_of("evaluate_masks", "--index", tmp_path / "none.csv")


@pytest.fixture
def written(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(bench, "measure", lambda name, rounds: bench.judged(
        faked((6.0, 2.0), growth=name == "memory_growth"), bench.TARGETS[name]
    ))  # fmt: skip
    path = tmp_path / "bench.json"
    assert bench.main(["--output", str(path), "--rounds", "1"]) == 0
    return path, capsys.readouterr().out


def test_writes_entries_and_surroundings_and_prints_a_table(written):
    path, printed = written
    result = json.loads(path.read_text())
    assert list(result["entries"]) == list(bench.TARGETS)
    assert all(entry.keys() >= CONTRACT for entry in result["entries"].values())
    assert result.keys() >= {"machine", "versions", "threads", "date", "commit"}
    assert result["machine"].keys() >= {"processor", "cores"}
    assert "| `random_walk` | 6 s | 2 s | 3 (3–3) | ≥ 300, missed |" in printed
    assert "| `host_infer_cam` | 6 s | 2 s | 3 (3–3) | ≤ 12 ms, missed |" in printed


def test_the_table_replaces_what_stands_between_the_markers(written, tmp_path):
    path, printed = written
    page = tmp_path / "README.md"
    page.write_text(f"before\n{BEGIN}\nearlier figures\n{END}\nafter\n")
    assert bench.main(["--table", str(path), "--page", str(page)]) == 0
    text = page.read_text()
    assert text.startswith(f"before\n{BEGIN}\n") and text.endswith(f"{END}\nafter\n")
    assert printed.strip() in text and "earlier" not in text


@pytest.mark.parametrize(
    ("flags", "named"),
    [
        (["--only", "random_wlak"], "random_wlak"),
        (["--table", "nothing.json"], "nothing.json"),
        (["--page", "README.md"], "--table"),
    ],
)
def test_mistakes_are_named(flags, named, tmp_path, capsys):
    assert bench.main([*flags, "--output", str(tmp_path / "bench.json")]) == 2
    assert named in capsys.readouterr().err
    assert not (tmp_path / "bench.json").exists()
