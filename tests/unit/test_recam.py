"""ReCAM against its formulas, written out image by image and class by class."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from tests.tiny_backbone import TinyBackbone
from workflow_scripts.doors.method import LabelledImage
from workflow_scripts.methods.recam import (
    InferRecamSettings,
    Recam,
    TrainRecamSettings,
    reactivation_loss,
)
from workflow_scripts.models.classification import CamNetwork
from workflow_scripts.models.trained import take_over
from workflow_scripts.storage.networks import save_network

CLASSES = 3


def recam(**values) -> Recam:
    return Recam(TrainRecamSettings(**values))


def signed(network):
    """The network, with features of which many are negative."""
    network.backbone.register_forward_hook(lambda module, given, features: features - 0.1)
    return network


def test_features_are_means_weighted_by_each_classes_normalised_map():
    torch.manual_seed(0)
    network = recam().build(TinyBackbone(6), CLASSES).eval()
    images = torch.randn(2, 3, 48, 40)
    with torch.no_grad():
        logits, found = network(images)
        features = network.backbone(images)
        first, second = (
            layer.weight[:, :, 0, 0] for layer in (network.classifier, network.reclassifier)
        )
        for image in range(2):
            assert logits[image] == pytest.approx(
                (first @ features[image].mean((1, 2))).tolist(), abs=1e-5
            )
            for label in range(CLASSES):
                one = F.relu(torch.einsum("c,chw->hw", first[label], features[image]))
                one = one / (one.max() + 1e-5)
                weighted = (features[image] * one).mean((1, 2))
                torch.testing.assert_close(found[image, label], second @ weighted)
        maps = F.relu(torch.einsum("kc,bchw->bkhw", first * second, features))
        torch.testing.assert_close(network.activations(images), maps)


def test_the_weights_keep_their_sign_where_features_may_be_negative():
    torch.manual_seed(0)
    network = signed(recam().build(TinyBackbone(6), CLASSES).eval())
    images = torch.randn(2, 3, 48, 40)
    with torch.no_grad():
        features = network.backbone(images)
        assert (features < 0).any()
        first, second = (
            layer.weight[:, :, 0, 0] for layer in (network.classifier, network.reclassifier)
        )
        product = F.relu(torch.einsum("kc,bchw->bkhw", first * second, features))
        torch.testing.assert_close(network.activations(images, "product"), product)
        agreeing = torch.where(first * second > 0, first * second.abs(), 0)
        expected = F.relu(torch.einsum("kc,bchw->bkhw", agreeing, features))
        torch.testing.assert_close(network.activations(images, "agreeing"), expected)
        torch.testing.assert_close(network.activations(images), expected)


def test_activations_follow_the_settings():
    torch.manual_seed(0)
    method = recam()
    network = signed(method.build(TinyBackbone(6), CLASSES).eval())
    pixels = np.random.default_rng(0).integers(0, 256, (32, 40, 3), dtype=np.uint8)
    image = LabelledImage(pixels, (1, 3), CLASSES)
    found = {}
    for weights in ("auto", "product", "agreeing"):
        infer = InferRecamSettings(scales=(1.0,), weights=weights)
        maps = method.activations(network, image, infer, torch.device("cpu"))
        found[weights] = maps.as_stored().activation()
    assert np.array_equal(found["auto"], found["agreeing"])
    assert np.abs(found["product"] - found["agreeing"]).max() > 0.1


def test_loss_by_hand():
    """Two labels of the first image are averaged; an image without labels adds nothing."""
    logits = torch.tensor([[[2.0, 0.0], [0.0, 1.0]], [[5.0, 1.0], [1.0, 1.0]]])
    labels = torch.tensor([[1.0, 1.0], [0.0, 0.0]])
    expected = (math.log(1 + math.exp(-2)) + math.log(1 + math.exp(-1))) / 2
    assert reactivation_loss(logits, labels).tolist() == pytest.approx([expected, 0.0])


def test_the_loss_is_a_sum_over_parts_of_a_batch():
    torch.manual_seed(0)
    method = recam(weight=0.5)
    network = method.build(TinyBackbone(6), CLASSES).train()
    batch = {"image": torch.randn(3, 3, 32, 32), "labels": torch.eye(3)}
    counts = method.counts(network, batch)
    assert counts.tolist() == [3]
    whole = method.loss(network, batch, counts)
    parts = [
        method.loss(network, {k: v[i : i + 1] for k, v in batch.items()}, counts) for i in range(3)
    ]
    torch.testing.assert_close(sum(parts), whole)
    logits, of_features = network(batch["image"])
    by_hand = F.multilabel_soft_margin_loss(logits, batch["labels"])
    by_hand = by_hand + 0.5 * np.mean([
        F.cross_entropy(of_features[i, i : i + 1], torch.tensor([i])).item() for i in range(3)
    ])  # fmt: skip
    assert whole.item() == pytest.approx(by_hand.item(), rel=1e-5)


def test_it_starts_from_the_classifier(tmp_path):
    torch.manual_seed(0)
    cam = CamNetwork(TinyBackbone(6), CLASSES)
    save_network(tmp_path / "model.safetensors", cam, {"kind": "cam"})
    network = recam().build(TinyBackbone(6), CLASSES)
    before = network.reclassifier.weight.clone()
    take_over(network, tmp_path / "model.safetensors")
    for name, tensor in cam.state_dict().items():
        assert torch.equal(network.state_dict()[name], tensor), name
    assert torch.equal(network.reclassifier.weight, before)
