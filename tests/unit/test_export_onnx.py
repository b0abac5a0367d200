"""Export to ONNX, checked with onnxruntime; skipped nowhere, since CI has the packages."""

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from PIL import Image

from tests.tiny_models import CLASSES, save_segmentation
from workflow_scripts.datasets.transforms import normalise
from workflow_scripts.errors import InputError
from workflow_scripts.export_onnx import check, main
from workflow_scripts.models.segmentation import ExportableSegmentation
from workflow_scripts.refinement.prediction import load_segmentation, predict
from workflow_scripts.settings.evaluation import EvaluateSegmentationSettings, ExportSettings

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_segmentation(tmp_path_factory.mktemp("model") / "segmentation")


@pytest.fixture(scope="module")
def exported(model: Path) -> Path:
    path = model.parent / "model.onnx"
    assert main(["--model", str(model), "--output", str(path)]) == 0
    return path


def smooth(height: int, width: int) -> np.ndarray:
    rows, columns = np.mgrid[:height, :width]
    waves = [np.sin(rows / a) + np.cos(columns / b) for a, b in ((7, 11), (13, 5), (9, 9))]
    return (np.stack(waves, -1) * 60 + 127).clip(0, 255).astype(np.uint8)


@pytest.mark.parametrize("size", [(64, 64), (83, 58)])
def test_labels_are_those_of_predict(model: Path, exported: Path, size: tuple[int, int]) -> None:
    network, _ = load_segmentation(model / "model.safetensors", CPU)
    image = smooth(*size)
    expected = predict(network, image, EvaluateSegmentationSettings(), CPU)
    session = onnxruntime.InferenceSession(str(exported), providers=["CPUExecutionProvider"])
    batch = np.stack([image.transpose(2, 0, 1)] * 2).astype(np.float32)
    logits, probabilities = session.run(None, {"images": batch})
    assert probabilities.shape == (2, len(CLASSES) + 1, *size)
    assert logits.shape[:2] == (2, len(CLASSES) + 1)
    assert len(np.unique(expected)) > 1
    assert (probabilities[0].argmax(0) == expected).mean() >= 0.999


def test_the_file_says_what_it_is(exported: Path) -> None:
    metadata = {entry.key: entry.value for entry in onnx.load(str(exported)).metadata_props}
    assert metadata["classes"] == '["background", "cat", "dog", "bird"]'
    assert metadata["normalisation"] == "inside"


def test_normalisation_outside_is_the_same_network(model: Path) -> None:
    network, description = load_segmentation(model / "model.safetensors", CPU)
    image = smooth(64, 48)
    raw = torch.from_numpy(image.transpose(2, 0, 1)[None].astype(np.float32))
    normalised = torch.from_numpy(normalise(image, description["mean"], description["std"])[None])
    with torch.inference_mode():
        inside, _ = ExportableSegmentation(network, True)(raw)
        outside, _ = ExportableSegmentation(network, False)(normalised)
    torch.testing.assert_close(inside, outside, rtol=1e-3, atol=1e-2)


def test_a_file_that_differs_is_refused(model: Path, exported: Path) -> None:
    network, _ = load_segmentation(model / "model.safetensors", CPU)
    torch.nn.init.normal_(network.classifier.branches[0].weight)
    with pytest.raises(InputError, match="differs from torch"):
        check(exported, ExportableSegmentation(network, True).eval(), ExportSettings())


def test_missing_packages_are_named(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    assert main(["--model", str(model), "--output", str(tmp_path / "m.onnx")]) == 2
    assert "pip install onnx onnxruntime" in capsys.readouterr().err
    assert not (tmp_path / "m.onnx").exists()


def test_the_documented_examples_run(
    model: Path, exported: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both examples of docs/deploy.md, as they stand there; that with ONNX where there is no torch."""
    text = (Path(__file__).parents[2] / "docs/deploy.md").read_text(encoding="utf-8")
    blocks = re.findall(r"```python\n(.*?)```", text, re.S)
    assert len(blocks) == 2
    Image.fromarray(smooth(64, 48)).save(tmp_path / "photo.jpg")
    (tmp_path / "segmentation").symlink_to(model)
    (tmp_path / "model.onnx").symlink_to(exported)
    monkeypatch.chdir(tmp_path)
    with_torch, without = blocks
    assert [sum(map(bool, block.splitlines())) for block in blocks] == [10, 17]
    exec(compile(with_torch, "docs/deploy.md", "exec"), {})
    blocked = f"import sys; sys.modules['torch'] = None\n{without}"
    done = subprocess.run([sys.executable, "-c", blocked], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith("%\n")
    assert Image.open("labels.png").size == (48, 64)
