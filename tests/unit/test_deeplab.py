import pytest
import torch
import torch.nn.functional as F

from tests.tiny_backbone import TinyBackbone
from workflow_scripts.models.segmentation import Aspp, segmentation_loss
from workflow_scripts.segmenters.deeplab_v2 import DeepLabV2
from workflow_scripts.segmenters.mlp import MlpDecoder


def test_aspp_is_the_sum_of_dilated_convolutions():
    torch.manual_seed(0)
    head = Aspp(4, 3, (6, 12, 18, 24))
    features = torch.randn(1, 4, 30, 20)
    expected = sum(
        F.conv2d(features, branch.weight, branch.bias, padding=dilation, dilation=dilation)
        for branch, dilation in zip(head.branches, (6, 12, 18, 24), strict=True)
    )
    torch.testing.assert_close(head(features), expected)
    assert head(features).shape == (1, 3, 30, 20)


def test_aspp_starts_at_the_published_weights():
    torch.manual_seed(0)
    head = Aspp(256, 21, (6, 12))
    for branch in head.branches:
        assert branch.weight.std().item() == pytest.approx(0.01, rel=0.05)
        assert not branch.bias.any()


def test_deeplab_has_a_channel_for_background_and_each_class():
    network = DeepLabV2(dilations=(1, 2)).build(TinyBackbone(8), 4).eval()
    with torch.no_grad():
        assert network(torch.zeros(2, 3, 32, 48)).shape == (2, 5, 2, 3)


@pytest.mark.parametrize("levels", [1, 4, 9])
def test_the_light_decoder_joins_levels_at_the_finest_of_them(levels):
    torch.manual_seed(0)
    backbone = TinyBackbone(8)
    network = MlpDecoder(width=16, levels=levels).build(backbone, 4).eval()
    images = torch.randn(2, 3, 36, 50)
    with torch.no_grad():
        logits = network(images)
        maps = backbone.pyramid(images)[-levels:]
        joined = torch.cat(
            [
                F.interpolate(p(m), size=maps[0].shape[-2:], mode="bilinear", align_corners=False)
                for p, m in zip(network.projections, maps, strict=True)
            ],
            dim=1,
        )
        fused = F.relu(network.fuse[1](network.fuse[0](joined)))
        torch.testing.assert_close(logits, network.classifier(fused))
    stride = backbone.levels[-min(levels, 5)].stride
    assert logits.shape == (2, 5, -(-36 // stride), -(-50 // stride))


def test_loss_is_the_mean_over_labelled_pixels_and_parts_add_up():
    random = torch.Generator().manual_seed(0)
    logits = torch.randn(4, 3, 4, 5, generator=random)
    labels = torch.randint(3, (4, 32, 40), generator=random)
    labels[1] = 255
    labels[2, :7] = 255
    count = (labels != 255).sum().float()
    enlarged = F.interpolate(logits, size=(32, 40), mode="bilinear", align_corners=False)
    expected = F.cross_entropy(enlarged, labels, ignore_index=255)
    whole = segmentation_loss(logits, labels, count)
    parts = [segmentation_loss(logits[i : i + 1], labels[i : i + 1], count) for i in range(4)]
    assert whole.item() == pytest.approx(expected.item(), rel=1e-5)
    assert sum(parts).item() == pytest.approx(expected.item(), rel=1e-5)


def test_a_batch_without_labelled_pixels_is_zero():
    labels = torch.full((1, 8, 8), 255)
    loss = segmentation_loss(torch.randn(1, 3, 2, 2), labels, torch.tensor(0.0))
    assert loss.item() == 0
