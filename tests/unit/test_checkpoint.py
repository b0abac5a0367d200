import logging
from pathlib import Path

import pytest
import torch
from torch import nn

from workflow_scripts.training.checkpoint import Checkpoint, fingerprint


def trained(optimiser: str, steps: int) -> tuple[nn.Module, torch.optim.Optimizer]:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, 5, 3), nn.BatchNorm2d(5))
    kind = getattr(torch.optim, optimiser)
    made = kind(network.parameters(), lr=0.1, **({"momentum": 0.9} if optimiser == "SGD" else {}))
    for step in range(steps):
        torch.manual_seed(step)
        made.zero_grad()
        network(torch.randn(2, 3, 8, 8)).square().sum().backward()
        made.step()
    return network, made


def assert_same(first: nn.Module, second: nn.Module) -> None:
    for name, tensor in first.state_dict().items():
        assert tensor.equal(second.state_dict()[name]), name


@pytest.mark.parametrize("optimiser", ["SGD", "Adam", "AdamW"])
def test_model_optimiser_step_and_notes_come_back(tmp_path: Path, optimiser: str):
    network, made = trained(optimiser, 3)
    Checkpoint(tmp_path / "m.safetensors", "a").save(network, made, 3, {"losses": [0.1, 0.2]})
    other, fresh = trained(optimiser, 0)
    found = Checkpoint(tmp_path / "m.safetensors", "a").restore(other, fresh)
    assert found == (3, {"losses": [0.1, 0.2]})
    assert_same(network, other)
    for index, state in made.state_dict()["state"].items():
        for key, value in state.items():
            assert torch.equal(torch.as_tensor(fresh.state_dict()["state"][index][key]),
                               torch.as_tensor(value))  # fmt: skip


def test_nothing_to_resume_from(tmp_path: Path):
    assert Checkpoint(tmp_path / "m.safetensors", "a").restore(*trained("SGD", 0)) is None


def test_another_configuration_is_refused(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    Checkpoint(tmp_path / "m.safetensors", "a").save(*trained("SGD", 2), 2, {})
    network, made = trained("SGD", 0)
    with caplog.at_level(logging.WARNING):
        assert Checkpoint(tmp_path / "m.safetensors", "b").restore(network, made) is None
    assert "another configuration, data or code" in caplog.text
    assert_same(network, trained("SGD", 0)[0])


@pytest.mark.parametrize("damage", ["cut", "empty", "garbage", "missing"])
def test_a_damaged_checkpoint_falls_back_to_the_previous(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, damage: str
):
    checkpoint = Checkpoint(tmp_path / "m.safetensors", "a")
    checkpoint.save(*trained("SGD", 1), 1, {})
    checkpoint.save(*trained("SGD", 2), 2, {})
    whole = checkpoint.path.read_bytes()
    if damage == "missing":
        checkpoint.path.unlink()
    else:
        broken = {"cut": whole[:-9], "empty": b"", "garbage": b"x" * 400}[damage]
        checkpoint.path.write_bytes(broken)
    network, made = trained("SGD", 0)
    with caplog.at_level(logging.WARNING):
        assert checkpoint.restore(network, made) == (1, {})
    assert ("is damaged" in caplog.text) is (damage != "missing")
    assert_same(network, trained("SGD", 1)[0])


def test_removal_leaves_nothing(tmp_path: Path):
    checkpoint = Checkpoint(tmp_path / "m.safetensors", "a")
    checkpoint.save(*trained("SGD", 1), 1, {})
    checkpoint.save(*trained("SGD", 2), 2, {})
    assert all(path.name.startswith(".") for path in tmp_path.iterdir())
    checkpoint.remove()
    assert list(tmp_path.iterdir()) == []


def test_fingerprints_depend_on_every_part_but_not_on_the_order_of_keys():
    assert fingerprint({"a": 1, "b": 2.0}, 3) == fingerprint({"b": 2.0, "a": 1}, 3)
    assert len({fingerprint({"a": 1}), fingerprint({"a": 2}), fingerprint({"a": 1}, 0)}) == 3
