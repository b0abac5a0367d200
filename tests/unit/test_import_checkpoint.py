import numpy as np
import pytest
import torch
import torch.nn.functional as F
import torchvision
from torch import nn

from tests.random_walk_oracle import dense_propagation
from workflow_scripts.datasets.index import write_index
from workflow_scripts.errors import InputError
from workflow_scripts.import_checkpoint import convert, import_checkpoint, main
from workflow_scripts.models.amn import AmnNetwork
from workflow_scripts.models.backbones import build_backbone
from workflow_scripts.models.boundary import infer_boundaries
from workflow_scripts.refinement.random_walk import propagate
from workflow_scripts.settings.backbone import BackboneSettings
from workflow_scripts.storage.networks import load_network, read_description


def resnet() -> nn.Module:
    """ResNet-50 with a last stage of stride 1, without a classifier; random statistics."""
    torch.manual_seed(0)
    network = torchvision.models.resnet50(weights=None)
    network.layer4[0].conv2.stride = network.layer4[0].downsample[0].stride = (1, 1)
    del network.fc
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.running_mean, -0.1, 0.1)
            nn.init.uniform_(module.running_var, 0.5, 1.5)
            nn.init.uniform_(module.weight, 0.3, 0.6)
    return network


class Published(nn.Module):
    """The modules of published checkpoints, with every tensor registered as often as there."""

    def __init__(self, stages: list[list[str]]) -> None:
        super().__init__()
        self.resnet50 = resnet()
        for number, names in enumerate(stages, start=1):
            stage = nn.Sequential(*(getattr(self.resnet50, name) for name in names))
            self.add_module(f"stage{number}", stage)
        count = len(stages)
        self.backbone = nn.ModuleList(getattr(self, f"stage{i + 1}") for i in range(count))

    def features(self, x):
        maps = []
        for stage in self.backbone:
            x = stage(x)
            maps.append(x)
        return maps


STEM = ["conv1", "bn1", "relu", "maxpool"]
FOUR = [[*STEM, "layer1"], ["layer2"], ["layer3"], ["layer4"]]
FIVE = [STEM, ["layer1"], ["layer2"], ["layer3"], ["layer4"]]


class PublishedCam(Published):
    def __init__(self, classes: int = 20) -> None:
        super().__init__(FOUR)
        self.classifier = nn.Conv2d(2048, classes, 1, bias=False)
        self.newly_added = nn.ModuleList([self.classifier])

    def forward(self, image):
        maps = F.relu(self.classifier(self.features(torch.cat([image, image.flip(-1)]))[-1]))
        return maps[0] + maps[1].flip(-1)


class PublishedAmn(Published):
    def __init__(self, classes: int = 20) -> None:
        super().__init__(FOUR)
        self.label_enc = nn.Linear(classes, 2048)
        aspp = nn.Module()
        for i, d in enumerate([6, 12, 18, 24]):
            aspp.add_module(f"c{i}", nn.Conv2d(2048, classes + 1, 3, padding=d, dilation=d))
        self.classifier = nn.Sequential(nn.Dropout(0.1), aspp)
        self.newly_added = nn.ModuleList([self.classifier, self.label_enc])

    def forward(self, image, labels):
        features = self.features(torch.cat([image, image.flip(-1)]))[-1]
        features = features * self.label_enc(labels)[:, :, None, None]
        logits = sum(branch(features) for branch in self.classifier[1].children())
        return (logits[0] + logits[1].flip(-1)) / 2


def up(scale: int) -> list[nn.Module]:
    return (
        [nn.Upsample(scale_factor=scale, mode="bilinear", align_corners=False)] if scale > 1 else []
    )


class PublishedIrn(Published):
    def __init__(self) -> None:
        super().__init__(FIVE)
        inputs = [64, 256, 512, 1024, 2048]
        for i, (channels, scale) in enumerate(zip(inputs, [1, 1, 2, 4, 4], strict=True), start=1):
            layer = [nn.Conv2d(channels, 32, 1, bias=False), nn.GroupNorm(4, 32), *up(scale)]
            self.add_module(f"fc_edge{i}", nn.Sequential(*layer, nn.ReLU()))
        self.fc_edge6 = nn.Conv2d(160, 1, 1)
        widths, groups = [64, 128, 256, 256, 256, 256], [8, 16, 16, 16, 16, 16]
        for i, (channels, width, group, scale) in enumerate(
            zip([*inputs, 768], widths, groups, [1, 1, 1, 2, 2, 2], strict=True), start=1
        ):
            layer = [nn.Conv2d(channels, width, 1, bias=False), nn.GroupNorm(group, width)]
            self.add_module(f"fc_dp{i}", nn.Sequential(*layer, *up(scale), nn.ReLU()))
        self.mean_shift = nn.Module()
        self.mean_shift.register_buffer("running_mean", torch.tensor([0.7, -1.3]))
        self.fc_dp7 = nn.Sequential(
            nn.Conv2d(448, 256, 1, bias=False), nn.GroupNorm(16, 256), nn.ReLU(),
            nn.Conv2d(256, 2, 1, bias=False), self.mean_shift,
        )  # fmt: skip
        self.edge_layers = nn.ModuleList(getattr(self, f"fc_edge{i}") for i in range(1, 7))
        self.dp_layers = nn.ModuleList(getattr(self, f"fc_dp{i}") for i in range(1, 8))
        self.register_buffer("path_indices0", torch.arange(4))
        self.register_buffer("disp_target", torch.zeros(1, 2, 3, 1))
        for layer in (*self.edge_layers, *self.dp_layers):
            for name, parameter in layer.named_parameters():
                nn.init.normal_(parameter, std=0.5 if name.startswith("1.") else 0.1)

    def forward(self, image, side):
        height, width = ((s - 1) // 4 + 1 for s in image.shape[-2:])
        both = torch.cat([image, image.flip(-1)])
        both = F.pad(both, [0, side - image.shape[3], 0, side - image.shape[2]])
        maps = self.features(both)
        edges = [layer(x) for layer, x in zip(list(self.edge_layers)[:5], maps, strict=True)]
        edge = self.fc_edge6(torch.cat([e[..., : side // 4, : side // 4] for e in edges], 1))
        edge = edge[..., :height, :width]
        dp = [layer(x) for layer, x in zip(list(self.dp_layers)[:5], maps, strict=True)]
        coarse = self.fc_dp6(torch.cat(dp[2:], 1))
        joined = torch.cat([dp[0], dp[1], coarse], 1)
        field = self.fc_dp7[:4](joined) - self.mean_shift.running_mean.view(1, 2, 1, 1)
        edge = torch.sigmoid(edge[0] / 2 + edge[1].flip(-1) / 2)
        return edge[0], field[0, :, :height, :width]


PUBLISHED = {"cam": PublishedCam, "amn": PublishedAmn, "irn": PublishedIrn}


@pytest.fixture(scope="module")
def published():
    return {kind: make().eval() for kind, make in PUBLISHED.items()}


def network_of(kind, tensors):
    network, _ = convert(kind, tensors, "in.pth", None)
    return network.eval()


@torch.no_grad()
def test_cam_gives_the_same_maps(published):
    ours = network_of("cam", published["cam"].state_dict())
    image = torch.randn(1, 3, 64, 48)
    maps = ours.activations(torch.cat([image, image.flip(-1)]))
    expected = published["cam"](image)
    assert expected.max() > 0.01
    torch.testing.assert_close(maps[0] + maps[1].flip(-1), expected, rtol=1e-3, atol=1e-5)


@torch.no_grad()
def test_amn_gives_the_same_logits(published):
    ours = network_of("amn", published["amn"].state_dict())
    image, labels = torch.randn(1, 3, 64, 48), torch.zeros(1, 20)
    labels[0, [3, 7]] = 1
    logits = ours(torch.cat([image, image.flip(-1)]), labels)
    expected = published["amn"](image, labels)
    torch.testing.assert_close((logits[0] + logits[1].flip(-1)) / 2, expected, rtol=1e-3, atol=1e-5)


@torch.no_grad()
@pytest.mark.parametrize("size", [(48, 40), (46, 37)])
def test_irn_gives_the_same_edges_displacements_and_scores(published, size):
    ours = network_of("irn", published["irn"].state_dict())
    image = torch.randn(1, 3, *size)
    edge, displacement = infer_boundaries(ours, image, least_side=64)
    expected_edge, expected_displacement = published["irn"](image, 64)
    assert expected_edge.std() > 0.01
    torch.testing.assert_close(edge[0], expected_edge, rtol=0, atol=1e-4)
    torch.testing.assert_close(displacement[0], expected_displacement, rtol=1e-3, atol=1e-3)
    activations = torch.rand(2, *edge.shape[1:])
    scores = propagate(activations**1.3, edge[0]).numpy()
    expected = dense_propagation(activations.numpy() ** 1.3, expected_edge.double().numpy())
    assert np.abs(scores / scores.max() - expected / expected.max()).max() < 1e-3


def refusal(kind, tensors) -> str:
    with pytest.raises(InputError) as caught:
        convert(kind, tensors, "in.pth", None)
    return str(caught.value)


@pytest.mark.parametrize("kind", PUBLISHED)
@pytest.mark.parametrize("asked", PUBLISHED)
def test_another_kind_is_named(published, kind, asked):
    if kind != asked:
        message = refusal(asked, published[kind].state_dict())
        assert f"--kind {kind}" in message
        assert "in.pth" in message


@pytest.mark.parametrize(
    ("kind", "lost", "named"),
    [
        ("cam", ".layer3.2.conv1.weight stage3.0.2.conv1.weight backbone.2.0.2.conv1.weight",
         "resnet50.layer3.2.conv1.weight"),
        ("amn", "classifier.1.c2.bias newly_added.0.1.c2.bias", "classifier.1.c2.bias"),
        ("irn", "fc_dp6.1.weight dp_layers.5.1.weight", "fc_dp6.1.weight"),
        ("irn", "mean_shift.running_mean 4.running_mean", "mean_shift.running_mean"),
        ("cam", "classifier.weight newly_added.0.weight", "classifier.weight"),
    ],
)  # fmt: skip
def test_missing_tensors_are_named(published, kind, lost, named):
    endings = tuple(lost.split())
    tensors = published[kind].state_dict()
    kept = {name: t for name, t in tensors.items() if not name.endswith(endings)}
    assert len(kept) < len(tensors)
    message = refusal(kind, kept)
    assert named in message and "missing" in message


def test_extra_tensors_are_named(published):
    tensors = published["cam"].state_dict()
    message = refusal("cam", {**tensors, "decoder.weight": torch.zeros(1)})
    assert "decoder.weight" in message
    message = refusal("cam", {**tensors, "resnet50.layer5.weight": torch.zeros(1)})
    assert "resnet50.layer5.weight" in message and "not part" in message


def test_copies_must_agree(published):
    tensors = dict(published["amn"].state_dict())
    tensors["stage2.0.1.bn2.bias"] = tensors["stage2.0.1.bn2.bias"] + 1e-3
    message = refusal("amn", tensors)
    assert "stage2.0.1.bn2.bias" in message and "resnet50.layer2.1.bn2.bias" in message


def test_wrong_shapes_are_named(published):
    tensors = dict(published["irn"].state_dict())
    tensors["fc_edge3.0.weight"] = tensors["edge_layers.2.0.weight"] = torch.zeros(32, 128, 1, 1)
    message = refusal("irn", tensors)
    assert "fc_edge3.0.weight (32, 128, 1, 1) instead of (32, 512, 1, 1)" in message


def test_checkpoints_of_old_pytorch_have_no_counters(published):
    tensors = published["irn"].state_dict()
    network_of("irn", {n: t for n, t in tensors.items() if "num_batches" not in n})


def test_no_code_in_a_file_is_executed(tmp_path):
    class Trap:
        def __reduce__(self):
            return (pytest.fail, ("executed",))

    torch.save({"classifier.weight": Trap()}, tmp_path / "trap.pth")
    with pytest.raises(InputError, match=r"trap\.pth"):
        import_checkpoint("cam", tmp_path / "trap.pth", tmp_path / "out.safetensors")


def test_files_become_files(tmp_path, published):
    tensors = published["amn"].state_dict()
    torch.save({f"module.{name}": t for name, t in tensors.items()}, tmp_path / "amn.pth")
    import_checkpoint("amn", tmp_path / "amn.pth", tmp_path / "model.safetensors")
    description = read_description(tmp_path / "model.safetensors", "amn")
    assert description["classes"][14] == "person"
    settings = BackboneSettings.model_validate(description["backbone"])
    network = AmnNetwork(build_backbone(settings), 20, description["dilations"], 0.1, True)
    load_network(tmp_path / "model.safetensors", network)
    assert torch.equal(network.classifier.branches[2].bias, tensors["classifier.1.c2.bias"])


def test_command_line_names_classes_by_the_index(tmp_path, capsys):
    torch.save(PublishedCam(3).state_dict(), tmp_path / "three.pth")
    write_index(tmp_path / "index.csv", ["cat", "dog", "cow"], [])
    arguments = ["--kind", "cam", str(tmp_path / "three.pth")]
    assert main([*arguments, "--index", str(tmp_path / "index.csv")]) == 0
    description = read_description(tmp_path / "three.safetensors", "cam")
    assert description["classes"] == ["cat", "dog", "cow"]
    assert main(arguments) == 0
    assert read_description(tmp_path / "three.safetensors", "cam")["classes"] == ["1", "2", "3"]
    write_index(tmp_path / "index.csv", ["cat", "dog"], [])
    assert main([*arguments, "--index", str(tmp_path / "index.csv")]) == 2
    assert main(["--kind", "cam", str(tmp_path / "absent.pth")]) == 2
    assert "absent.pth" in capsys.readouterr().err
