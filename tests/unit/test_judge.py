"""Quality predicted without true masks: each evidence by hand, and known degradations ranked rightly."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tools.degraded_masks import degraded
from tools.judge_calibration import Judged, fitted, ninety
from workflow_scripts import judge as stage
from workflow_scripts.datasets.index import IndexRow, read_index, write_index
from workflow_scripts.datasets.kinds.demo import DemoDatasetSettings
from workflow_scripts.evaluation.confusion import Confusion, border
from workflow_scripts.judging import mask_evidence
from workflow_scripts.judging.mask_evidence import KINDS as EVIDENCE
from workflow_scripts.judging.mask_evidence import evidence, iou, reduced, smoothed
from workflow_scripts.judging.predicted_quality import (
    NINETY,
    Calibration,
    PredictedCounts,
    RegionTable,
    SetOfMasks,
    judge,
    published,
    region_iou,
)
from workflow_scripts.storage.masks import MaskWriter, decode_mask, encode_mask


def square(side: int = 24) -> tuple[np.ndarray, np.ndarray]:
    """A bright square off the middle of a dark image, and its mask."""
    mask = np.zeros((side, side), np.uint8)
    mask[4:12, 4:12] = 2
    return np.where(mask[..., None] > 0, [220, 40, 40], [30, 60, 90]).astype(np.uint8), mask


def of(name: str, regions: list, number: int) -> float:
    [region] = [region for region in regions if region.number == number]
    return region.values[EVIDENCE.index(name)]


def test_a_mask_on_the_edges_has_the_best_evidence() -> None:
    image, mask = square()
    moved = np.roll(mask, 3, axis=1)
    right, wrong = evidence(image, [mask, moved], (2,))
    # All variance lies between the sides; the same square explains 8·8·(1/64 + 1/512)… of mirror images.
    share = 64 / 24**2
    chance = np.mean(
        [_overlap_share(mask, view) for view in (mask[:, ::-1], mask[::-1], mask[::-1, ::-1])]
    )
    assert of("colours", right, 2) == pytest.approx((1 - chance) / (1 - chance))
    assert of("colours", wrong, 2) < 0.6
    inner, outer = border(mask > 0, 1), border(mask == 0, 1)
    assert of("edges", right, 2) > 1 - 1.1 * (inner.sum() + outer.sum()) / mask.size / 2 - share
    assert of("edges", wrong, 2) < of("edges", right, 2)
    assert of("refined", right, 2) == 1
    assert of("smooth", right, 2) == pytest.approx(iou(mask > 0, smoothed(mask > 0)))
    assert of("extent", right, 2) == pytest.approx(np.sqrt(share))
    assert of("touching", right, 0) == 1 and of("touching", right, 2) == 0
    assert of("rim", right, 2) == 1 and of("beyond", right, 2) == 0
    assert of("rim", wrong, 2) < 1 and of("beyond", wrong, 2) > 0
    assert right[1].agreement == pytest.approx(8 * 5 / (2 * 64 - 8 * 5))


def _overlap_share(mask: np.ndarray, view: np.ndarray) -> float:
    """Squared correlation of two regions: the share of one's variance that the other explains."""
    return float(np.corrcoef(mask.ravel() > 0, view.ravel() > 0)[0, 1] ** 2)


def test_regions_that_are_not_there_or_not_expected() -> None:
    image, mask = square()
    [regions] = evidence(image, [mask], (1,))
    assert [(one.number, one.expected, one.share > 0) for one in regions] == [
        (0, True, True), (1, True, False), (2, False, True),
    ]  # fmt: skip
    assert all(np.isnan(one.agreement) for one in regions)
    ignored = np.where(mask == 2, 255, 0).astype(np.uint8)
    [[background, missing]] = evidence(image, [ignored], (1,))
    assert background.share == pytest.approx(1 - 64 / 24**2) and missing.share == 0


def test_large_images_are_reduced(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mask_evidence, "SIDE", 8)
    image = np.arange(21 * 10 * 3).reshape(21, 10, 3).astype(np.uint8)
    mask = np.arange(210).reshape(21, 10).astype(np.uint8)
    small, [own] = reduced(image, [mask])
    assert small.shape == (7, 4, 3)
    assert own.tolist() == mask[1::3][:, [1, 4, 7, 9]].tolist()


def test_smoothing_is_the_majority_of_25() -> None:
    noise = np.random.default_rng(0).random((9, 11)) < 0.5
    padded = np.pad(noise, 2, mode="edge")
    expected = [[padded[y : y + 5, x : x + 5].sum() > 12.5 for x in range(11)] for y in range(9)]
    assert smoothed(noise).tolist() == expected


# Sets that differ by less (IoU) may be ranked either way.
NEAR = 0.15
KINDS = {
    "right": "right",
    "grown 3 %": "grown3",
    "grown 8 %": "grown8",
    "noisy 40 %": "noisy",
    "blob": "blob",
}


def regions(*rows: tuple[int, int, float, bool]) -> RegionTable:
    images, numbers, shares, expected = zip(*rows, strict=True)
    values = np.zeros((len(rows), len(EVIDENCE)))
    return RegionTable(*map(np.array, (images, numbers, shares, expected)), values)


def test_counts_of_regions_add_up_to_the_iou_of_classes() -> None:
    """IoU q of areas that are equal: intersection 2q/(1+q) of the area, union 2/(1+q)."""
    table = regions(
        (0, 0, 0.5, True), (0, 1, 0.5, True), (1, 0, 0.8, True), (1, 1, 0.2, True),
        (2, 1, 0.0, True), (2, 2, 0.1, False),
    )  # fmt: skip
    counts = PredictedCounts.of(table, np.array([0.8, 0.6, 0.9, 0.25, 0.7, 0.7]))
    typical = np.median([0.5, 0.2])
    unions = [1.0 / 1.8, 1.0 / 1.6, 1.6 / 1.9, 0.4 / 1.25, typical, 0.1]
    hits = [0.8 * unions[0], 0.6 * unions[1], 0.9 * unions[2], 0.25 * unions[3], 0, 0]
    assert np.allclose(counts.union, unions)
    found = counts.class_iou(3)
    assert found[0] == pytest.approx((hits[0] + hits[2]) / (unions[0] + unions[2]))
    assert found[1] == pytest.approx((hits[1] + hits[3]) / (unions[1] + unions[3] + typical))
    assert found[2] == 0 and np.isnan(found[3])
    gains = counts.gains(3, 3)
    without = found.copy()
    without[0] = (hits[0] + 0.8) / (unions[0] + 0.8)
    without[1] = (hits[1] + 0.2) / (unions[1] + 0.2 + typical)
    assert gains[1] == pytest.approx(np.nansum(without - found) / 3)
    assert (gains >= 0).all() and gains.shape == (3,)


def test_predicted_iou_is_quadratic_in_the_evidence() -> None:
    """Columns: 1, x, y, x², xy, y²."""
    evidence = np.array([[0.5, 0.2], [0.5, 0.2]])
    calibration = Calibration((0.1, 0.6, 0.0, 0.4, 0.5, 0.5), (0.9, 0, 0, 0, 0, 0))
    expected = [0.1 + 0.6 * 0.5 + 0.4 * 0.25 + 0.5 * 0.1 + 0.5 * 0.04, 0.9]
    assert region_iou(np.array([3, 0]), evidence, calibration) == pytest.approx(expected)


def test_of_a_single_label_it_is_sure_which_class_a_region_is() -> None:
    table = regions((0, 0, 0.5, True), (0, 1, 0.5, True), (1, 1, 0.2, True), (1, 2, 0.2, True))
    assert table.evidence[:, -1].tolist() == [1, 1, 0.5, 0.5]


def test_the_calibration_is_complete(tmp_path: Path) -> None:
    found = published()
    columns = (len(EVIDENCE) + 2) * (len(EVIDENCE) + 3) // 2
    assert len(found.foreground) == len(found.background) == columns
    assert 0 < found.error < 0.3 and found.pair_error > 0
    assert found.fitted_on
    found.write(tmp_path / "again.json")
    assert Calibration.read(tmp_path / "again.json") == found


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Composed scenes without any true mask, and sets of masks of falling quality."""
    folder = tmp_path_factory.mktemp("scenes")
    settings = DemoDatasetSettings(train_images=16, val_images=1, empty_share=0, image_size=96)
    settings.prepare(folder / "dataset", 1)
    index = read_index(folder / "dataset/index.csv")
    rows = []
    truths = {}
    for record in index.of_split("train"):
        assert record.mask is not None
        truth = decode_mask(record.mask.read_bytes())
        truths[record.id] = truth
        record.mask.unlink()
        for kind in KINDS:
            path = folder / KINDS[kind] / f"{record.id}.png"
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(encode_mask(degraded(truth, kind)))
        names = [index.classes[label - 1] for label in record.labels]
        path = str(record.path)
        rows.append(IndexRow(record.id, path, record.width, record.height, "train", names, ""))
    write_index(folder / "dataset/index.csv", index.classes, rows)
    np.savez(folder / "truths.npz", **truths)
    quality = {}
    for kind in KINDS.values():
        confusion = Confusion.empty(len(index.classes))
        for name, truth in truths.items():
            confusion.update(truth, decode_mask((folder / kind / f"{name}.png").read_bytes()))
        quality[kind] = confusion.mean_iou("wrong")
    (folder / "quality.json").write_text(json.dumps(quality))
    return folder


def run(scenes: Path, out: Path, *sets: str) -> dict:
    flags = ["--index", str(scenes / "dataset/index.csv"), "--out", str(out)]
    assert stage.main(["--masks", *(str(scenes / name) for name in sets), *flags]) == 0
    return json.loads((out / "judged.json").read_text())


def test_known_degradations_are_ranked_rightly(
    scenes: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    found = run(scenes, tmp_path, "grown8", "blob", "right", "grown3", "noisy")
    order = [row["set"] for row in found["sets"]]
    quality = json.loads((scenes / "quality.json").read_text())
    for place, name in enumerate(order):
        assert all(quality[name] > quality[other] - NEAR for other in order[place + 1 :])
    assert order[0] == "right" and order[-1] == "blob"
    assert [row["miou"] for row in found["sets"]] == sorted(
        (row["miou"] for row in found["sets"]), reverse=True
    )
    assert all(row["miou_low"] < row["miou"] < row["miou_high"] for row in found["sets"])
    assert found["better"][0]["probability"] > 0.5
    assert "right better than " in capsys.readouterr().out
    with (tmp_path / "images.csv").open() as stream:
        images = [row for row in csv.DictReader(stream) if row["set"] == "blob"]
    assert sorted(int(row["look"]) for row in images) == list(range(1, 17))


def test_no_result_of_before_stands_beside_new_tables(
    scenes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = judge(regions((0, 0, 0.5, True), (0, 1, 0.5, True)), 1, 1)
    result = stage.Result(("a",), ("cat",), ("one",), (own,), np.array([np.nan]))
    stage.write(tmp_path, result)
    whole = ["classes.csv", "images.csv", "judged.json", "sets.csv"]
    assert sorted(path.name for path in tmp_path.iterdir()) == whole
    monkeypatch.setattr(stage, "_pairs", lambda _: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        stage.write(tmp_path, result)
    assert not (tmp_path / "judged.json").exists()


def test_a_set_alone_is_judged_too(scenes: Path, tmp_path: Path) -> None:
    values = {}
    for name in ("right", "grown8", "noisy", "blob"):
        [row] = run(scenes, tmp_path / name, name)["sets"]
        values[name] = row["miou"]
        assert row["better_than_next"] is None
    assert values["right"] == max(values.values())


def test_correcting_in_the_offered_order_gains_more_than_at_random(scenes: Path) -> None:
    """Simulated with the true masks, which the order has not seen."""
    index = read_index(scenes / "dataset/index.csv")
    truths, gathered = np.load(scenes / "truths.npz"), SetOfMasks()
    own = []
    for position, record in enumerate(index.records):
        mask = decode_mask((scenes / "blob" / f"{record.id}.png").read_bytes())
        if position % 4:
            mask = decode_mask((scenes / "right" / f"{record.id}.png").read_bytes())
        image = np.asarray(Image.open(record.path))
        gathered.add(position, evidence(image, [mask], record.labels)[0])
        own.append(Confusion.empty(len(index.classes)).update(truths[record.id], mask).counts)
    found = judge(gathered.table(), len(index.classes), len(own))
    wrong = [np.trace(one[:, :-1]) < 0.9 * one.sum() for one in own]
    first = np.argsort(-found.gains)[: sum(wrong)]
    assert np.mean([wrong[which] for which in first]) >= 0.75


def test_shards_of_a_run_are_the_same_as_a_folder(scenes: Path, tmp_path: Path) -> None:
    shards = tmp_path / "shards"
    with MaskWriter(shards / "train-00.zip") as writer:
        for path in sorted((scenes / "noisy").iterdir()):
            writer.write(path.stem, decode_mask(path.read_bytes()))
    flags = ["--index", str(scenes / "dataset/index.csv"), "--split", "train"]
    both = ["--masks", str(scenes / "noisy"), str(shards), "--names", "folder", "shards"]
    assert stage.main([*both, *flags, "--out", str(tmp_path / "out")]) == 0
    one, other = json.loads((tmp_path / "out/judged.json").read_text())["sets"]
    assert one["miou"] == other["miou"]


def test_of_a_run_the_shards_of_now_are_read_alone(
    scenes: Path, tmp_path: Path, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Shards of another number of parts and of other splits stay in a run's folders."""
    monkeypatch.setattr(stage, "MOST_OPEN", 1)
    masks = {
        path.stem: decode_mask(path.read_bytes()) for path in sorted((scenes / "noisy").iterdir())
    }
    blank = dict.fromkeys(masks, np.zeros((96, 96), np.uint8))
    names, shards = list(masks), tmp_path / "shards"
    for shard, ids, content in (
        ("train-00", names[:8], masks),
        ("train-01", names[8:], masks),
        ("train-02", names[8:], blank),
        ("val-00", ["elsewhere"], {"elsewhere": blank[names[0]]}),
    ):
        with MaskWriter(shards / f"{shard}.zip") as writer:
            for name in ids:
                writer.write(name, content[name])
    flags = ["--masks", str(shards), "--index", str(scenes / "dataset/index.csv")]
    flags += ["--split", "train", "--out", str(tmp_path / "out"), "--shards"]
    assert stage.main([*flags, "train-00", "train-01"]) == 0
    assert "belong to no image" not in capsys.readouterr().err
    [row] = json.loads((tmp_path / "out/judged.json").read_text())["sets"]
    assert row["miou"] == run(scenes, tmp_path / "folder", "noisy")["sets"][0]["miou"]
    assert stage.main([*flags, "train-00", "train-02", "train-01"]) == 2
    assert "train-01.zip: holds a mask of image" in capsys.readouterr().err
    assert stage.main([*flags, "train-00"]) == 2
    assert "no mask of image" in capsys.readouterr().err


@pytest.mark.parametrize("parts", [2, None])
def test_by_hand_a_run_is_read_as_its_record_says(
    scenes: Path, tmp_path: Path, capsys: pytest.CaptureFixture, parts: int | None
) -> None:
    """Without --shards too, the shards of an earlier cut are not read; without a record all are."""
    masks = {
        path.stem: decode_mask(path.read_bytes()) for path in sorted((scenes / "noisy").iterdir())
    }
    names, folder = list(masks), tmp_path / "demo/0/cam/auto/pseudo_masks"
    for shard, ids in (("train-00", names[:8]), ("train-01", names[8:]), ("train-02", names[8:])):
        with MaskWriter(folder / f"{shard}.zip") as writer:
            for name in ids:
                blank = shard == "train-02"
                writer.write(name, np.zeros_like(masks[name]) if blank else masks[name])
    if parts:
        (tmp_path / "demo/shards.json").write_text(json.dumps({"limit": 16, "parts": parts}))
    flags = ["--masks", str(folder), "--index", str(scenes / "dataset/index.csv")]
    assert stage.main([*flags, "--out", str(tmp_path / "out")]) == (0 if parts else 2)
    if not parts:
        assert "two masks are called" in capsys.readouterr().err
        return
    [row] = json.loads((tmp_path / "out/judged.json").read_text())["sets"]
    assert row["miou"] == run(scenes, tmp_path / "folder", "noisy")["sets"][0]["miou"]
    for shard in ("train-00", "train-01"):
        (folder / f"{shard}.zip").unlink()
    assert stage.main(flags) == 2
    assert "only 1 of an earlier cut; run the workflow again" in capsys.readouterr().err


def test_a_folder_and_a_table_do_as_well(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    image, mask = square()
    for name in ("a/one", "two"):
        path = tmp_path / "photos" / f"{name}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(path)
    for name in ("a_one", "two"):
        (tmp_path / "masks").mkdir(exist_ok=True)
        (tmp_path / f"masks/{name}.png").write_bytes(encode_mask(mask))
    (tmp_path / "labels.csv").write_text("image,labels\na/one.png,dog\ntwo.png,cat;dog\n")
    flags = ["--images", str(tmp_path / "photos"), "--labels", str(tmp_path / "labels.csv")]
    masks = ["--masks", str(tmp_path / "masks")]
    assert stage.main([*masks, *flags]) == 0
    told = capsys.readouterr()
    assert "dog" in told.out
    assert "by the table's labels: 1 cat, 2 dog" in told.err
    (tmp_path / "masks/two.png").write_bytes(encode_mask(np.where(mask, 9, 0).astype(np.uint8)))
    assert stage.main([*masks, *flags]) == 2
    assert "two: unknown value 9 in the mask" in capsys.readouterr().err
    (tmp_path / "masks/two.png").write_bytes(encode_mask(mask[:5]))
    assert stage.main([*masks, *flags]) == 2
    assert "24×5 pixels" in capsys.readouterr().err
    (tmp_path / "masks/two.png").unlink()
    assert stage.main([*masks, *flags]) == 2
    assert "no mask of image" in capsys.readouterr().err
    (tmp_path / "masks").rename(tmp_path / "SegmentationClass")
    assert stage.main(["--masks", str(tmp_path), *flags]) == 2
    assert f"give {tmp_path / 'SegmentationClass'}" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        ([], "give --images, a folder, and --labels"),
        (["--index", "i.csv", "--labels", "l.csv"], "not both"),
        (["--index", "i.csv", "--names", "a", "b"], "2 names for 1 folders"),
    ],
)
def test_flags_that_do_not_fit(flags: list[str], said: str, capsys: pytest.CaptureFixture) -> None:
    assert stage.main(["--masks", "somewhere", *flags]) == 2
    assert said in capsys.readouterr().err


def test_masks_of_nothing_are_told_of(scenes: Path, tmp_path: Path, capsys) -> None:
    for path in (scenes / "right").iterdir():
        (tmp_path / "empty").mkdir(exist_ok=True)
        (tmp_path / "empty" / path.name).write_bytes(encode_mask(np.zeros((96, 96), np.uint8)))
    masks = ["--masks", str(tmp_path / "empty"), str(scenes / "right")]
    flags = ["--index", str(scenes / "dataset/index.csv"), "--out", str(tmp_path / "out")]
    assert stage.main([*masks, *flags]) == 0
    assert "set empty: no mask has a pixel of a class" in capsys.readouterr().err
    found = json.loads((tmp_path / "out/judged.json").read_text())
    assert [row["set"] for row in found["sets"]] == ["right", "empty"]


def test_an_interval_holds_ninety_in_a_hundred_whichever_set_of_images_they_are_of() -> None:
    """Few errors of one set weigh as much as many of another."""
    small, large = np.full(1000, 0.01), np.linspace(-0.5, 0.5, 11)
    assert ninety([small]) == 0.01
    assert ninety([np.array([0.3, -0.1, 0.2])]) == 0.3
    # Half of all weight is small; of the other half four fifths are within 0.4.
    assert ninety([small, large]) == pytest.approx(0.4)


def test_sets_that_are_held_out_do_not_widen_their_own_interval() -> None:
    """Predictions of three groups whose true IoU lies beside the line of the others."""
    random = np.random.default_rng(0)
    judged = []
    for group in ("a", "b", "c"):
        for number in range(6):
            values = random.random((8, len(EVIDENCE)))
            numbers = np.tile([0, 1], 4)
            table = RegionTable(
                np.repeat(np.arange(4), 2), numbers, np.full(8, 0.5), np.full(8, True), values
            )
            off = 0.2 * (group == "c")
            truth = Confusion(np.array([[int(50 + 4 * number - 100 * off), 50, 0], [10, 40, 0]]))
            iou = values[:, 0] * 0.5 + 0.3 - off
            judged.append(Judged(f"{group} {number}", group, group, table, iou, truth, [truth]))
    found = fitted(judged)
    assert found.width.keys() == {"a", "b", "c"}
    off = {
        group: np.abs(
            found.predicted[group, True] - [one.miou for one in judged if one.group == group]
        )
        for group in found.width
    }
    assert found.width["c"] == pytest.approx(ninety([off["a"], off["b"]]))
    assert found.calibration.error * NINETY == pytest.approx(ninety(list(off.values())))
