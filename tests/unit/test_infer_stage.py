"""The stage that makes activations: batches change nothing, errors name images, nothing half remains."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from tests.tiny_models import CLASSES, save_run
from workflow_scripts import infer
from workflow_scripts.datasets.index import IndexRow, read_index, write_index
from workflow_scripts.errors import InputError
from workflow_scripts.methods.cam import Cam
from workflow_scripts.models.multi_scale import in_halves
from workflow_scripts.storage.activations import ActivationReader
from workflow_scripts.storage.masks import MaskWriter
from workflow_scripts.training import inference_pipeline

SIZES = [(48, 64), (45, 37), (48, 64), (48, 64), (45, 37), (48, 64)]
LABELS = [["cat"], ["dog"], ["cat", "dog"], ["bird"], [], ["dog", "bird"]]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Networks, six images of two sizes, and seeds of them."""
    folder = save_run(tmp_path_factory.mktemp("run"))
    random = np.random.default_rng(0)
    rows = []
    with MaskWriter(folder / "seeds.zip") as seeds:
        for number, ((height, width), labels) in enumerate(zip(SIZES, LABELS, strict=True)):
            image = random.integers(0, 256, (height, width, 3), np.uint8)
            Image.fromarray(image).save(folder / f"{number}.png")
            rows.append(IndexRow(f"n{number}", f"{number}.png", width, height, "train", labels, ""))
            seeds.write(f"n{number}", random.integers(0, 3, (height, width)).astype(np.uint8))
    write_index(folder / "index.csv", CLASSES, rows)
    return folder


def inferred(run: Path, method: str, output: Path) -> int:
    more = ["--seeds", str(run / "seeds.zip")] if method == "amn" else []
    return infer.main([
        method, "--index", str(run / "index.csv"), "--model", str(run / f"0/{method}/model.safetensors"),
        "--output", str(output), "--split", "train", "--device", "cpu", "--scales", "1", "0.5",
        "--threads", "1", *more,
    ])  # fmt: skip


def read(run: Path, path: Path) -> list[np.ndarray]:
    with ActivationReader(path) as reader:
        records = read_index(run / "index.csv").records
        assert list(reader.ids) == [record.id for record in records]
        return [reader.read_full(one.id, one.height, one.width) for one in records]


@pytest.mark.parametrize("method", ["cam", "amn"])
def test_images_in_batches_have_the_activations_that_they_have_alone(
    run: Path, tmp_path: Path, method: str, monkeypatch: pytest.MonkeyPatch
):
    seen: list[int] = []

    def counted(compute, count):
        seen.append(count)
        return in_halves(compute, count)

    monkeypatch.setattr("workflow_scripts.models.multi_scale.in_halves", counted)
    assert inferred(run, method, tmp_path / "alone.safetensors") == 0
    assert seen == [2] * 12
    monkeypatch.setitem(inference_pipeline.PIXELS, "cpu", 3 * 48 * 64 * 2)
    assert inferred(run, method, tmp_path / "together.safetensors") == 0
    assert seen[12:] == [6, 6, 4, 4, 2, 2]
    alone, together = (
        read(run, tmp_path / f"{name}.safetensors") for name in ("alone", "together")
    )
    for one, other in zip(alone, together, strict=True):
        np.testing.assert_allclose(one, other, atol=2e-3)


def test_a_missing_image_ends_the_stage_with_its_name_and_nothing_half(
    run: Path, tmp_path: Path, capsys
):
    kept = (run / "3.png").read_bytes()
    (run / "3.png").unlink()
    try:
        assert inferred(run, "cam", tmp_path / "out.safetensors") == 2
    finally:
        (run / "3.png").write_bytes(kept)
    assert "3.png: no such image" in capsys.readouterr().err
    assert [path for path in tmp_path.iterdir() if path.suffix != ".lock"] == []


def test_an_image_that_was_replaced_ends_the_stage_from_the_writers_thread(
    run: Path, tmp_path: Path, capsys
):
    kept = (run / "2.png").read_bytes()
    Image.new("RGB", (30, 40)).save(run / "2.png")
    try:
        assert inferred(run, "cam", tmp_path / "out.safetensors") == 2
    finally:
        (run / "2.png").write_bytes(kept)
    assert "image 'n2': labels, height and width are" in capsys.readouterr().err
    assert not (tmp_path / "out.safetensors").exists()


def test_a_mistake_of_a_method_names_the_image_even_in_a_batch(
    run: Path, tmp_path: Path, capsys, monkeypatch: pytest.MonkeyPatch
):
    plain = Cam.activations_together

    def wrong(self, network, images, infer, device):
        if any(image.labels == (3,) for image in images):
            raise InputError("cannot see birds")
        return plain(self, network, images, infer, device)

    monkeypatch.setattr(Cam, "activations_together", wrong)
    monkeypatch.setitem(inference_pipeline.PIXELS, "cpu", 3 * 48 * 64 * 2)
    assert inferred(run, "cam", tmp_path / "out.safetensors") == 2
    assert "image n3: cannot see birds" in capsys.readouterr().err


def test_a_gpu_whose_memory_holds_one_view_gives_the_same(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    assert inferred(run, "cam", tmp_path / "whole.safetensors") == 0

    def small(compute, *positions):
        def of_small_memory(some):
            if some.stop - some.start > 1:
                raise torch.OutOfMemoryError
            return compute(some)

        return in_halves(of_small_memory, *positions)

    monkeypatch.setattr("workflow_scripts.models.multi_scale.in_halves", small)
    monkeypatch.setitem(inference_pipeline.PIXELS, "cpu", 3 * 48 * 64 * 2)
    assert inferred(run, "cam", tmp_path / "halved.safetensors") == 0
    whole, halved = (read(run, tmp_path / f"{name}.safetensors") for name in ("whole", "halved"))
    for one, other in zip(whole, halved, strict=True):
        np.testing.assert_allclose(one, other, atol=2e-3)
