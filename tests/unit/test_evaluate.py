import json
from pathlib import Path

import numpy as np
import pytest

from workflow_scripts import evaluate
from workflow_scripts.datasets.images import read_mask
from workflow_scripts.evaluation.confusion import BoundaryIou, Confusion, border
from workflow_scripts.storage.masks import MaskWriter, encode_mask


def save(folder: Path, name: str, mask: np.ndarray) -> None:
    path = folder / f"{name}.png"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(encode_mask(mask))


@pytest.fixture
def folders(tmp_path: Path) -> Path:
    random = np.random.default_rng(0)
    with MaskWriter(tmp_path / "shards" / "val-00.zip") as shard:
        for i in range(3):
            truth = random.choice([0, 1, 3, 255], (20, 30)).astype(np.uint8)
            noise = random.choice([0, 1, 2, 255], truth.shape).astype(np.uint8)
            prediction = np.where(random.random(truth.shape) < 0.3, noise, truth)
            save(tmp_path / "truth", f"sub/{i} ü", truth)
            save(tmp_path / "pred", f"sub/{i} ü", prediction)
            shard.write(f"sub/{i} ü", prediction)
    return tmp_path


def expected(folders: Path) -> Confusion:
    total = Confusion.empty(3)
    for path in (folders / "truth").rglob("*.png"):
        other = folders / "pred" / path.relative_to(folders / "truth")
        total.update(read_mask(path), read_mask(other))
    return total


def run(folders: Path, pred: str = "pred", *more: str) -> int:
    words = ["--pred", str(folders / pred), "--truth", str(folders / "truth")]
    return evaluate.main([*words, "--out", str(folders / "out.json"), *more])


@pytest.mark.parametrize("pred", ["pred", "shards"])
@pytest.mark.parametrize("policy", ["wrong", "skip"])
def test_figures_of_folders(folders: Path, pred: str, policy: str) -> None:
    assert run(folders, pred, "--ignored", policy) == 0
    result = json.loads((folders / "out.json").read_text())
    total = expected(folders)
    assert result["ignored_predictions"] == policy
    assert result["miou"] == pytest.approx(100 * total.mean_iou(policy))  # type: ignore[arg-type]
    assert result["confusion"] == total.to_json()
    assert result["images"] == 3
    assert list(result["per_class"]) == ["background", "class 1", "class 2", "class 3"]


def test_names_come_from_the_list_of_classes(
    folders: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folders / "classes.csv").write_text("name\ncat\ndog\ncow\n")
    assert run(folders, "pred", "--classes", str(folders / "classes.csv")) == 0
    result = json.loads((folders / "out.json").read_text())
    assert list(result["per_class"]) == ["background", "cat", "dog", "cow"]
    assert "predictions of 255 count as wrong" in (shown := capsys.readouterr().out)
    assert "cow" in shown
    (folders / "classes.csv").write_text("name\ncat\ndog\n")
    assert run(folders, "pred", "--classes", str(folders / "classes.csv")) == 2
    assert "value 3, which is neither a class (0 to 2)" in capsys.readouterr().err


def test_mistakes_have_clear_errors(folders: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(folders, "nowhere") == 2
    assert "nowhere: no such folder" in capsys.readouterr().err
    (folders / "empty").mkdir()
    assert run(folders, "empty") == 2
    assert "holds neither masks" in capsys.readouterr().err
    save(folders / "pred", "sub/0 ü", np.zeros((5, 5), np.uint8))
    assert run(folders) == 2
    assert "mask 'sub/0 ü': truth is of shape" in capsys.readouterr().err
    (folders / "pred/sub/0 ü.png").write_bytes(b"no image")
    assert run(folders) == 2
    assert "0 ü.png: not a readable image" in capsys.readouterr().err
    (folders / "pred/sub/0 ü.png").unlink()
    assert run(folders) == 2
    assert "no prediction for 1 of 3 masks" in capsys.readouterr().err


def test_border_is_region_minus_erosion() -> None:
    ndimage = pytest.importorskip("scipy.ndimage")
    random = np.random.default_rng(0)
    for _ in range(20):
        region = ndimage.binary_dilation(
            random.random(random.integers(1, 40, 2)) < 0.1, iterations=2
        )
        distance = int(random.integers(1, 5))
        inner = ndimage.binary_erosion(region, np.ones((3, 3)), iterations=distance)
        assert np.array_equal(border(region, distance), region & ~inner)


def test_boundary_iou_by_hand() -> None:
    truth = np.zeros((30, 40), np.uint8)
    truth[10:20, 10:20] = 1
    boundary = BoundaryIou(2)
    boundary.update(truth, truth)
    assert boundary.mean() == 1
    assert np.isnan(boundary.iou()[2])
    shifted = BoundaryIou(2)
    shifted.update(truth, np.roll(truth, 1, axis=1))
    # The diagonal is 50 pixels, so that borders are rings one pixel wide.
    assert shifted.iou()[1] == pytest.approx(18 / (36 + 36 - 18))
    ignored = BoundaryIou(2)
    ignored.update(np.full_like(truth, 255), truth)
    assert np.isnan(ignored.mean())
