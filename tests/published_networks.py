"""The modules whose state dicts are the published checkpoints of CAM, AMN and IRN, with random weights."""

import torch
import torch.nn.functional as F
import torchvision
from torch import nn


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
