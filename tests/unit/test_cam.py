import math

import pytest
import torch

from tests.tiny_backbone import TinyBackbone
from workflow_scripts.models.classification import CamNetwork, multi_label_loss


def test_loss_is_multi_label_soft_margin():
    logits = torch.tensor([[2.0, -1.0], [0.0, 3.0]])
    labels = torch.tensor([[1.0, 0.0], [1.0, 0.0]])
    loss = multi_label_loss(logits, labels)
    by_hand = (math.log(1 + math.exp(-2)) + math.log(1 + math.exp(-1))) / 2
    assert loss[0].item() == pytest.approx(by_hand, rel=1e-6)
    expected = torch.nn.functional.multilabel_soft_margin_loss(logits, labels)
    assert loss.mean().item() == pytest.approx(expected.item(), rel=1e-6)


def test_logits_are_the_mean_of_the_maps():
    """A bias-free 1×1 classifier after pooling equals pooling after the classifier."""
    torch.manual_seed(0)
    network = CamNetwork(TinyBackbone(8), 5).eval()
    image = torch.randn(2, 3, 32, 48)
    with torch.no_grad():
        maps = network.classifier(network.backbone(image))
        torch.testing.assert_close(network(image), maps.mean(dim=(2, 3)))
        assert network.activations(image).equal(maps.clamp(min=0))
    assert maps.shape == (2, 5, 2, 3)
    assert network.classifier.bias is None
