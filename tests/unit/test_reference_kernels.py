"""The usual implementations give what the workflow's kernels give, and take their place when asked to."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.tiny_backbone import TinyBackbone
from tests.unit.test_threshold_sweep import scenes, swept
from tools.benchmarks.reference_kernels import hook, networks
from tools.benchmarks.reference_kernels.threshold_sweep import histogram_of_image
from workflow_scripts.doors.method import LabelledImage
from workflow_scripts.evaluation import threshold_sweep
from workflow_scripts.models.classification import CamNetwork, cam_activations
from workflow_scripts.models.trained import ready_for_inference
from workflow_scripts.refinement import dense_crf
from workflow_scripts.settings.evaluation import SweepSettings

ROOT = Path(__file__).resolve().parents[2]
CPU = torch.device("cpu")


def test_dense_crf_gives_the_same_labels():
    pytest.importorskip("pydensecrf.densecrf")
    from tools.benchmarks.reference_kernels import dense_crf as usual

    rng = np.random.default_rng(0)
    image = np.kron(rng.integers(0, 256, (6, 7, 3)), np.ones((8, 8, 1))).astype(np.uint8)
    labels = np.kron(rng.integers(0, 3, (2, 6, 7)), np.ones((1, 8, 8), int))
    labels[rng.random(labels.shape) < 0.2] = 0
    unary = np.stack([dense_crf.unary_from_labels(one, 3) for one in labels])
    for problems in (unary, unary[0]):
        expected = dense_crf.refine(image, problems, SweepSettings().crf)
        found = usual.refine(image, problems, SweepSettings().crf)
        assert found.shape == expected.shape and found.dtype == expected.dtype
        assert (found.argmax(axis=-3) == expected.argmax(axis=-3)).mean() >= 0.999
        np.testing.assert_allclose(found, expected, atol=1e-2)


def test_sweep_counts_the_same(monkeypatch):
    expected = swept(scenes()).tensors()
    monkeypatch.setattr(threshold_sweep, "histogram_of_image", histogram_of_image)
    found = swept(scenes()).tensors()
    for name in ("thresholds", "counts", "image_iou"):
        np.testing.assert_array_equal(found[name], expected[name])
    for name in ("image_foreground_cv", "image_gap"):
        np.testing.assert_allclose(found[name], expected[name], atol=1e-9)
    with pytest.raises(ValueError, match="200"):
        swept([(*scenes()[1][:3], np.full_like(scenes()[1][3], 200))])


def test_network_gives_nearly_the_same_activations(monkeypatch):
    torch.manual_seed(0)
    network = CamNetwork(TinyBackbone(), 3)
    image = np.random.default_rng(0).integers(0, 256, (50, 70, 3), np.uint8)

    def activations():
        ready = ready_for_inference(network, CPU)
        given = LabelledImage(image, (1, 3), 3)
        [found] = cam_activations(ready, [given], (1.0, 0.5), CPU)
        return found.activation(), next(ready.parameters()).is_contiguous()

    expected, ours_is_contiguous = activations()
    monkeypatch.setattr(torch, "channels_last", networks.channels_last)
    found, is_contiguous = activations()
    assert is_contiguous and not ours_is_contiguous
    np.testing.assert_allclose(found, expected, atol=1e-4)


def run_with_reference(code: str) -> tuple[str, str]:
    """Standard output and error of a Python that starts with the reference's kernels."""
    path = os.pathsep.join((str(ROOT), str(hook.START)))
    done = subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, "PYTHONPATH": path}, check=True,
        capture_output=True, text=True,
    )  # fmt: skip
    return done.stdout, done.stderr


def test_python_starts_with_them_and_loads_nothing_for_it():
    out, err = run_with_reference(
        "import sys\n"
        "from workflow_scripts.refinement.thresholding import refine\n"
        "print(refine.__module__, 'torch' in sys.modules)\n"
        "from workflow_scripts.evaluation import threshold_sweep, sweep_kernel\n"
        "print(threshold_sweep.histogram_of_image.__module__)\n"
        "print(sweep_kernel.histogram_of_image.__module__)\n"
        "from workflow_scripts.training.loop import choose_dtype, torch\n"
        "print(choose_dtype('bfloat16', 'resnet50', torch.device('cpu')), torch.channels_last)\n"
    )
    usual = "tools.benchmarks.reference_kernels"
    assert out.splitlines() == [
        f"{usual}.dense_crf False",
        f"{usual}.threshold_sweep",
        "workflow_scripts.evaluation.sweep_kernel",
        "torch.float32 torch.contiguous_format",
    ]
    assert sorted(err.splitlines()) == sorted(map(hook.message, hook.REPLACED))


def test_a_kernel_that_is_gone_is_named(monkeypatch):
    monkeypatch.delattr(dense_crf, "refine")
    with pytest.raises(AttributeError, match="refine"):
        hook.replace(dense_crf)
