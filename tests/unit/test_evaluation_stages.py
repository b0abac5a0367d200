"""The stages that compare with ground truth, run from their command lines on a tiny dataset."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from workflow_scripts import evaluate_masks, sweep_thresholds
from workflow_scripts.datasets.index import IndexRow, read_index, write_index
from workflow_scripts.evaluation.confusion import Confusion, merge_evaluations, read_evaluation
from workflow_scripts.evaluation.threshold_sweep import read_sweeps
from workflow_scripts.refinement.thresholding import dataset_labels, local_labels
from workflow_scripts.storage.activations import (
    ActivationReader,
    ActivationWriter,
    activation_shape,
)
from workflow_scripts.storage.chosen_thresholds import ChosenThresholds
from workflow_scripts.storage.masks import MaskWriter, decode_mask, encode_mask

CLASSES = ("cat", "dog")


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    """Five images in an index, with masks, a shard of activations and one of predicted masks."""
    random = np.random.default_rng(0)
    rows, truths = [], []
    for i in range(5):
        height, width = 20 + i, 33
        labels = tuple(CLASSES[:k] for k in (0, 1, 2))[i % 3]
        Image.fromarray(random.integers(0, 256, (height, width, 3), np.uint8)).save(
            tmp_path / f"{i} ü.png"
        )
        truth = random.choice([0, *range(1, len(labels) + 1), 255], (height, width)).astype("u1")
        (tmp_path / f"mask{i}.png").write_bytes(encode_mask(truth))
        truths.append(truth)
        rows.append(IndexRow(f"{i} ü", f"{i} ü.png", width, height, "val", labels, f"mask{i}.png"))
    write_index(tmp_path / "index.csv", CLASSES, rows)
    records = read_index(tmp_path / "index.csv").records
    with (
        ActivationWriter(tmp_path / "val-00.safetensors", records) as activations,
        MaskWriter(tmp_path / "val-00.zip") as masks,
    ):
        for record, truth in zip(records, truths, strict=True):
            activations.write(record.id, random.random(activation_shape(record)))
            masks.write(record.id, np.where(random.random(truth.shape) < 0.3, 255, truth))
    return tmp_path


def flags(dataset: Path, **files: str) -> list[str]:
    words = ["--index", str(dataset / "index.csv"), "--split", "val"]
    for name, file in files.items():
        words += [f"--{name}", str(dataset / file)]
    return words


@pytest.mark.parametrize("threads", ["1", "2"])
def test_sweep_stage(dataset: Path, threads: str) -> None:
    words = flags(dataset, activations="val-00.safetensors", output="sweep/val-00.safetensors")
    words += ["--refined-thresholds", "0.3", "0.6", "--crf-iterations", "0", "--step", "0.1"]
    assert sweep_thresholds.main([*words, "--threads", threads]) == 0
    sweeps = read_sweeps(dataset / "sweep/val-00.safetensors")
    assert sweeps.plain.images().ids == tuple(f"{i} ü" for i in range(5))
    assert len(sweeps.plain.thresholds) == 10
    assert sweeps.refined is not None
    reached = sweeps.refined.curve().miou[0]
    # Without iterations a CRF leaves the labels as they are.
    expected = Confusion.empty(2)
    with ActivationReader(dataset / "val-00.safetensors") as reader:
        for i, record in enumerate(read_index(dataset / "index.csv").records):
            large = reader.read_full(record.id, record.height, record.width)
            truth = decode_mask((dataset / f"mask{i}.png").read_bytes())
            expected.update(truth, dataset_labels(local_labels(large, 0.3), record.labels))
    assert reached == pytest.approx(expected.mean_iou("skip"))


def test_sweep_stage_without_refined_masks(dataset: Path) -> None:
    words = flags(dataset, activations="val-00.safetensors", output="s")
    assert sweep_thresholds.main([*words, "--refined-thresholds"]) == 0
    assert read_sweeps(dataset / "s").refined is None


def test_masks_are_refined_at_a_chosen_threshold_too(dataset: Path) -> None:
    ChosenThresholds.around(0.45, "consensus", 0.1, {}).write(dataset / "thresholds.json")
    words = flags(
        dataset, activations="val-00.safetensors", output="s", thresholds="thresholds.json"
    )
    words += ["--refinement", "par", "--par-iterations", "1", "--refined-thresholds", "0.3", "0.6"]
    assert sweep_thresholds.main(words) == 0
    refined = read_sweeps(dataset / "s").refined
    assert refined is not None and refined.thresholds == pytest.approx([0.3, 0.45, 0.6])
    assert refined.refinement == "par"


def test_evaluation_stage(dataset: Path) -> None:
    out = dataset / "evaluation/val-00.json"
    words = flags(dataset, masks="val-00.zip", output="evaluation/val-00.json")
    assert evaluate_masks.main(words) == 0
    evaluation = read_evaluation(out)
    assert evaluation.classes == CLASSES
    assert list(evaluation.images) == [f"{i} ü" for i in range(5)]
    parts = [Confusion.from_cells(2, cells).counts for cells in evaluation.images.values()]
    assert np.array_equal(sum(parts), evaluation.total.counts)
    assert evaluation.total.mean_iou("skip") == 1
    assert evaluation.total.mean_iou("wrong") == pytest.approx(0.7, abs=0.05)
    assert np.array_equal(merge_evaluations([out, out]).total.counts, 2 * evaluation.total.counts)


def test_mistakes_name_the_file(dataset: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = flags(dataset, masks="val-00.zip", output="out.json")
    (dataset / "mask2.png").write_bytes(encode_mask(np.full((22, 33), 9, np.uint8)))
    assert evaluate_masks.main(words) == 2
    assert "mask2.png" in (message := capsys.readouterr().err)
    assert "value 9" in message
    (dataset / "mask2.png").write_bytes(encode_mask(np.zeros((33, 22), np.uint8)))
    assert evaluate_masks.main(words) == 2
    assert "22×33 pixels, its image 33×22" in capsys.readouterr().err
    (dataset / "mask2.png").unlink()
    assert evaluate_masks.main(words) == 2
    assert "mask2.png" in capsys.readouterr().err
    index = read_index(dataset / "index.csv")
    rows = [IndexRow(r.id, str(r.path), r.width, r.height, "val", [], "") for r in index.records]
    write_index(dataset / "index.csv", CLASSES, [row._replace(split="train") for row in rows])
    assert evaluate_masks.main(words) == 2
    assert "split 'val' has no images" in capsys.readouterr().err
    assert not (dataset / "out.json").exists()


def test_images_without_a_mask_are_left_out(
    dataset: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    records = read_index(dataset / "index.csv").records
    evaluate = flags(dataset, masks="val-00.zip", output="out.json")
    sweep = flags(dataset, activations="val-00.safetensors", output="s")
    for kept in ({"1 ü", "4 ü"}, set()):
        rows = [
            IndexRow(
                r.id, str(r.path), r.width, r.height, "val", [CLASSES[i - 1] for i in r.labels],
                str(r.mask) if r.id in kept else "",
            )
            for r in records
        ]  # fmt: skip
        write_index(dataset / "index.csv", CLASSES, rows)
        assert evaluate_masks.main(evaluate) == 0
        assert sweep_thresholds.main([*sweep, "--refined-thresholds"]) == 0
        assert f"{5 - len(kept)} of 5 images have no mask" in capsys.readouterr().err
        evaluation, sweeps = read_evaluation(dataset / "out.json"), read_sweeps(dataset / "s")
        assert set(evaluation.images) == kept
        assert set(sweeps.plain.images().ids) == kept


def test_stages_start_without_torch() -> None:
    program = (
        "import sys\n"
        "import workflow_scripts.sweep_thresholds, workflow_scripts.evaluate_masks\n"
        "import workflow_scripts.evaluate, workflow_scripts.summarise\n"
        "assert 'torch' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
