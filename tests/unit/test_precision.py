"""Which arithmetic `auto` takes."""

import pytest
import torch

from tests.tiny_training import tiny_settings, tiny_train
from workflow_scripts.settings.training import TrainingSettings
from workflow_scripts.training.precision import choose_dtype, inference_dtype

CPU = torch.device("cpu")


@pytest.mark.parametrize(
    ("capabilities", "expected"),
    [
        ({"avx2": True, "avx512_bf16": False, "amx_bf16": False}, torch.float32),
        ({"avx512_f": True}, torch.float32),
        ({"avx512_bf16": True}, torch.float32),
        ({"avx512_bf16": True, "amx_bf16": True}, torch.bfloat16),
        ({"neon": True, "bf16": True}, torch.bfloat16),
    ],
)
def test_cpus_take_bfloat16_where_they_have_it_and_it_pays(monkeypatch, capabilities, expected):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities)
    assert choose_dtype("auto", True, CPU) == expected
    assert choose_dtype("auto", False, CPU) == torch.float32


@pytest.mark.parametrize(("native", "expected"), [(True, torch.bfloat16), (False, torch.float16)])
def test_gpus_take_bfloat16_where_they_do_not_emulate_it(monkeypatch, native, expected):
    monkeypatch.setattr(
        torch.cuda,
        "is_bf16_supported",
        lambda including_emulation=True: including_emulation or native,
    )
    assert choose_dtype("auto", False, torch.device("cuda")) == expected


def test_what_was_asked_for_is_taken():
    assert choose_dtype("bfloat16", False, CPU) == torch.bfloat16
    assert choose_dtype("float32", True, CPU) == torch.float32


def test_the_log_says_how_a_trained_network_infers(caplog):
    description = {"precision": "auto", "backbone": {"name": "efficientnet_lite0"}}
    with caplog.at_level("INFO"):
        assert inference_dtype(description, CPU) == torch.float32
    assert "efficientnet_lite0 in float32 on cpu" in caplog.text


@pytest.fixture
def torch_arithmetic():
    """What torch is set to, put back after the test."""
    switches = (torch.backends.cudnn, torch.backends.cuda.matmul)
    kept = [switch.allow_tf32 for switch in switches]
    torch.backends.cudnn.allow_tf32 = True
    yield lambda: [switch.allow_tf32 for switch in switches]
    for switch, value in zip(switches, kept, strict=True):
        switch.allow_tf32 = value


@pytest.mark.parametrize("precision", ["float32", "auto", "bfloat16", "tf32"])
def test_float32_is_float32_on_gpus_too(torch_arithmetic, precision):
    description = {"precision": precision, "backbone": {"name": "efficientnet_lite0"}}
    inference_dtype(description, CPU)
    assert torch_arithmetic() == [precision == "tf32"] * 2


def test_tf32_is_a_way_to_compute_float32(caplog):
    description = {"precision": "tf32", "backbone": {"name": "resnet50"}}
    with caplog.at_level("INFO"):
        assert inference_dtype(description, CPU) == torch.float32
    assert "resnet50 in tf32" in caplog.text
    assert TrainingSettings(precision="tf32").precision == "tf32"


def test_training_sets_it(torch_arithmetic, tmp_path):
    tiny_train(tmp_path, tiny_settings(precision="float32", max_steps=1))
    assert torch_arithmetic() == [False, False]
