"""Which arithmetic `auto` takes."""

import pytest
import torch

from workflow_scripts.training.precision import choose_dtype, inference_dtype

CPU = torch.device("cpu")


@pytest.mark.parametrize(
    ("capabilities", "expected"),
    [
        ({"avx2": True, "avx512_bf16": False, "amx_bf16": False}, torch.float32),
        ({"avx512_f": True}, torch.float32),
        ({"avx512_bf16": True}, torch.bfloat16),
        ({"amx_bf16": True}, torch.bfloat16),
        ({"neon": True, "bf16": True}, torch.bfloat16),
    ],
)
def test_resnets_on_cpus_take_bfloat16_where_the_cpu_has_it(monkeypatch, capabilities, expected):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities)
    assert choose_dtype("auto", "resnet50", CPU) == expected
    assert choose_dtype("auto", "efficientnet_lite0", CPU) == torch.float32


@pytest.mark.parametrize(("native", "expected"), [(True, torch.bfloat16), (False, torch.float16)])
def test_gpus_take_bfloat16_where_they_do_not_emulate_it(monkeypatch, native, expected):
    monkeypatch.setattr(
        torch.cuda,
        "is_bf16_supported",
        lambda including_emulation=True: including_emulation or native,
    )
    assert choose_dtype("auto", "resnet50", torch.device("cuda")) == expected


def test_what_was_asked_for_is_taken():
    assert choose_dtype("bfloat16", "efficientnet_lite0", CPU) == torch.bfloat16
    assert choose_dtype("float32", "resnet50", CPU) == torch.float32


def test_the_log_says_how_a_trained_network_infers(caplog):
    description = {"precision": "auto", "backbone": {"name": "efficientnet_lite0"}}
    with caplog.at_level("INFO"):
        assert inference_dtype(description, CPU) == torch.float32
    assert "efficientnet_lite0 in float32 on cpu" in caplog.text
