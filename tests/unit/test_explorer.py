import base64
import io
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.report_run import FinishedRun, build_run
from workflow_scripts import make_explorer
from workflow_scripts.datasets.index import read_index
from workflow_scripts.evaluation.threshold_sweep import ThresholdSweep, even_thresholds
from workflow_scripts.evaluation.truth import read_truth
from workflow_scripts.report.image_pages import (
    best_median_worst,
    evenly_spaced,
    gains,
    heat,
    mask_uri,
    passed_thresholds,
    slider_positions,
)
from workflow_scripts.report.names import safe_colours, voc_colours
from workflow_scripts.storage.activations import ActivationReader


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> FinishedRun:
    return build_run(tmp_path_factory.mktemp("run"), side=50)


def explorer(run: FinishedRun, folder: Path, *extra: str) -> tuple[str, dict]:
    page = folder / "explorer.html"
    flags = run.flags("run", "index", "curves", "methods", "sources", "shards")
    assert make_explorer.main([*flags, "--output", str(page), *extra]) == 0
    text = page.read_text()
    return text, json.loads(text.split('id="data">')[1].split("</script>")[0])


def planes_of(image: dict) -> np.ndarray:
    data = base64.b64decode(image["planes"].split(",")[1])
    return np.array(Image.open(io.BytesIO(data))).reshape(-1, image["height"], image["width"])


def test_planes_hold_the_masks_of_every_threshold(run: FinishedRun, tmp_path: Path) -> None:
    _, data = explorer(run, tmp_path)
    thresholds = even_thresholds(0.01)
    assert data["thresholds"] == [round(float(t), 6) for t in thresholds]
    records = {record.id: record for record in read_index(run.index).records}
    shard = run.path / "0" / "amn" / "activations" / "val-00.safetensors"
    assert {image["id"] for image in data["images"]} == {"val0", "val1", "val2", "val3"}
    for image in data["images"]:
        planes, record = planes_of(image), records[image["id"]]
        truth, passed, winner = planes[0], planes[3], planes[4]
        assert (truth == read_truth(record)).all()
        sweep = ThresholdSweep(2, thresholds)
        with ActivationReader(shard) as reader:
            activation = reader.read_full(record.id, record.height, record.width)
            sweep.update(record.id, activation, record.labels, truth)
        for position, expected in enumerate(sweep.confusions()):
            mask = np.where(passed > position, winner, 0)[truth != 255]
            assert (np.bincount(mask, minlength=3) == expected.sum(axis=0)).all()


def test_a_value_equal_to_a_threshold_does_not_pass_it() -> None:
    thresholds = np.array([0.25, 0.5, 0.75], np.float32)
    activation = np.full((2, 8, 8), 0.5, np.float32)
    activation[1] = 0.25
    passed, winner = passed_thresholds(activation, (3, 7), thresholds)
    assert (passed == 1).all()
    assert (winner == 3).all()
    passed, winner = passed_thresholds(activation[:0], (), thresholds)
    assert not passed.any()
    assert not winner.any()


def test_the_slider_has_at_most_255_positions() -> None:
    assert slider_positions(even_thresholds(0.01)).tolist() == list(range(100))
    many = slider_positions(even_thresholds(0.001))
    assert len(many) <= 255
    assert set(np.diff(many)) == {4}


def test_page_is_self_contained_and_small(run: FinishedRun, tmp_path: Path) -> None:
    text, data = explorer(run, tmp_path)
    assert "http" not in text.replace("http://www.w3.org/2000/svg", "")
    assert len(text) < 5e6
    assert "</script" not in text.split('id="data">')[1].split("</script>")[0]
    assert [method["key"] for method in data["methods"]] == ["cam", "amn"]
    assert [used["threshold"] for used in data["used"]] == [0.5, 0.3]
    amn = data["methods"][1]["curve"]
    assert len(amn["mean"]) == 100
    wide = sum(high - low for low, high in amn["plateau"])
    assert wide == pytest.approx(amn["plateau_share"], abs=1e-6)


def test_images_that_do_not_fit_are_left_out(run: FinishedRun, tmp_path: Path) -> None:
    text, whole = explorer(run, tmp_path)
    limit = (len(text.encode()) - 1) / 1e6
    smaller, data = explorer(run, tmp_path, "--explorer-megabytes", str(limit))
    assert 0 < len(data["images"]) < len(whole["images"])
    assert len(smaller.encode()) <= limit * 1e6


def test_without_masks_truth_is_left_out(tmp_path: Path) -> None:
    maskless = build_run(tmp_path, with_masks=False)
    _, data = explorer(maskless, tmp_path, "--explorer-images", "2")
    assert not data["truth"]
    assert [image["id"] for image in data["images"]] == ["val0", "val3"]
    assert all(image["gain"] is None for image in data["images"])
    assert planes_of(data["images"][0]).shape[0] == 4
    assert not any("curve" in method for method in data["methods"])


def test_missing_activations_are_a_users_error(
    run: FinishedRun, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = run.flags("run", "index", "curves", "sources", "shards")
    page = tmp_path / "explorer.html"
    assert make_explorer.main([*flags, "--methods", "gone", "--output", str(page)]) == 2
    assert "gone" in capsys.readouterr().err
    assert not page.exists()


def test_images_are_the_best_middle_and_worst_by_gain() -> None:
    gain = {f"i{n}": float(n) for n in range(9)}
    chosen = best_median_worst(gain, 6)
    assert [c.id for c in chosen] == ["i8", "i7", "i5", "i4", "i1", "i0"]
    assert [c.group for c in chosen] == ["best"] * 2 + ["median"] * 2 + ["worst"] * 2
    for number in range(1, 12):
        ids = [c.id for c in best_median_worst(gain, number)]
        assert len(ids) == len(set(ids)) == min(number, 9)
    assert [c.id for c in best_median_worst({"b": 0.0, "a": 0.0}, 2)] == ["a", "b"]
    assert best_median_worst({}, 3) == []


def test_gain_is_taken_at_each_methods_best_threshold() -> None:
    truth = np.zeros((8, 8), np.uint8)
    truth[:, :4] = 1
    sweeps = []
    for value, background in ((0.3, 0.26), (0.9, 0.0)):
        sweep = ThresholdSweep(1, even_thresholds(0.1))
        activation = np.full((1, 8, 8), background, np.float32)
        activation[0, :, :4] = value
        sweep.update("x", activation, (1,), truth)
        sweeps.append(sweep)
    best = [100 * sweep.images().iou[0].max() for sweep in sweeps]
    assert best[1] > best[0] + 10
    assert gains(*sweeps) == {"x": pytest.approx(best[1] - best[0])}


def test_evenly_spaced_ids_reach_both_ends() -> None:
    assert evenly_spaced("abcde", 3) == ["a", "c", "e"]
    assert evenly_spaced("ab", 5) == ["a", "b"]
    assert evenly_spaced("abc", 1) == ["a"]


def test_colours_of_classes_differ() -> None:
    assert voc_colours(2) == ["#000000", "#800000", "#008000"]
    for count in (7, 20):
        colours = safe_colours(count)
        assert len(colours) == len(set(colours)) == count + 1


def test_pictures_keep_labels_and_order() -> None:
    mask = np.array([[0, 1], [2, 255]], np.uint8).repeat(20, 0).repeat(20, 1)
    data = base64.b64decode(mask_uri(mask, 20, ["#000000", "#ff0000", "#0000ff"]).split(",")[1])
    picture = np.array(Image.open(io.BytesIO(data)).convert("RGB"))
    assert picture.shape == (20, 20, 3)
    assert picture[0, 0].tolist() == [0, 0, 0]
    assert picture[0, -1].tolist() == [255, 0, 0]
    assert picture[-1, -1].tolist() == [210, 210, 210]
    light = heat(np.linspace(0, 1, 50)).astype(int).sum(axis=1)
    assert (np.diff(light) >= 0).all()
