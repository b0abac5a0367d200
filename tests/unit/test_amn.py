import math

import numpy as np
import pytest
import torch
from PIL import Image

from tests.tiny_backbone import TinyBackbone
from workflow_scripts.models.per_pixel import (
    AmnNetwork,
    per_pixel_loss,
    pixel_counts,
    reduce_labels,
)

# A 2×2 map of two classes and background: probabilities of the three channels, and the seed.
PROBABILITIES = np.array([[[0.5, 0.3, 0.2], [0.2, 0.2, 0.6]], [[0.9, 0.05, 0.05], [0.1, 0.8, 0.1]]])
SEED = torch.tensor([[[0, 2], [255, 1]]])
# Target 1 - ε on the label and ε / 2 on each of the two others, ε = 0.4, by hand.
BACKGROUND = -(0.6 * math.log(0.5) + 0.2 * math.log(0.3) + 0.2 * math.log(0.2))
CLASS_2 = -(0.6 * math.log(0.6) + 0.2 * math.log(0.2) + 0.2 * math.log(0.2))
CLASS_1 = -(0.6 * math.log(0.8) + 0.2 * math.log(0.1) + 0.2 * math.log(0.1))


def logits() -> torch.Tensor:
    # The softmax ignores what is added to all channels.
    return torch.tensor(np.log(PROBABILITIES) + 3).permute(2, 0, 1)[None]


def test_balanced_loss_by_hand():
    counts = pixel_counts(SEED, balance=True)
    assert counts.tolist() == [1, 2]
    loss = per_pixel_loss(logits(), SEED, counts, 0.4)
    assert loss.item() == pytest.approx((BACKGROUND + (CLASS_1 + CLASS_2) / 2) / 2, rel=1e-6)


def test_unbalanced_loss_by_hand():
    counts = pixel_counts(SEED, balance=False)
    assert counts.tolist() == [3]
    loss = per_pixel_loss(logits(), SEED, counts, 0.4)
    assert loss.item() == pytest.approx((BACKGROUND + CLASS_1 + CLASS_2) / 3, rel=1e-6)


def test_without_smoothing_it_is_cross_entropy():
    random = torch.Generator().manual_seed(0)
    scores = torch.randn(2, 4, 5, 6, generator=random)
    labels = torch.randint(4, (2, 5, 6), generator=random)
    labels[:, 0] = 255
    loss = per_pixel_loss(scores, labels, pixel_counts(labels, False), 0.0)
    expected = torch.nn.functional.cross_entropy(scores, labels, ignore_index=255)
    assert loss.item() == pytest.approx(expected.item(), rel=1e-6)


def test_smoothing_is_zero_only_at_the_smoothed_target():
    """The loss is least where the probabilities equal the target: its entropy."""
    target = torch.tensor([0.6, 0.2, 0.2])
    labels = torch.zeros(1, 1, 1, dtype=torch.long)
    scores = torch.log(target)[None, :, None, None].requires_grad_()
    loss = per_pixel_loss(scores, labels, torch.tensor([1.0]), 0.4)
    loss.backward()
    assert loss.item() == pytest.approx(-(target * target.log()).sum().item(), rel=1e-6)
    assert scores.grad is not None and scores.grad.abs().max() < 1e-7


@pytest.mark.parametrize(
    ("absent", "expected"), [(0, (CLASS_1 + CLASS_2) / 4), (1, BACKGROUND / 2)]
)
def test_an_absent_side_counts_as_zero(absent: int, expected: float):
    labels = SEED.clone()
    labels[labels == 0 if absent == 0 else (labels != 0)] = 255
    scores = logits().requires_grad_()
    loss = per_pixel_loss(scores, labels, pixel_counts(labels, True), 0.4)
    loss.backward()
    assert loss.item() == pytest.approx(expected, rel=1e-6)
    assert scores.grad is not None and torch.isfinite(scores.grad).all()


@pytest.mark.parametrize("balance", [True, False])
def test_nothing_but_ignored_pixels_is_zero(balance: bool):
    labels = torch.full((1, 2, 2), 255)
    assert per_pixel_loss(logits(), labels, pixel_counts(labels, balance), 0.4).item() == 0


@pytest.mark.parametrize("balance", [True, False])
def test_micro_batches_add_up(balance: bool):
    random = torch.Generator().manual_seed(1)
    scores = torch.randn(5, 3, 4, 4, generator=random, dtype=torch.float64).requires_grad_()
    labels = torch.randint(3, (5, 4, 4), generator=random)
    labels[0] = 0
    labels[1, :2] = 255
    counts = pixel_counts(labels, balance)
    whole = per_pixel_loss(scores, labels, counts, 0.1)
    parts = [per_pixel_loss(scores[i : i + 2], labels[i : i + 2], counts, 0.1) for i in (0, 2, 4)]
    gradients = [torch.autograd.grad(loss, scores)[0] for loss in (whole, sum(parts))]
    assert sum(parts).item() == pytest.approx(whole.item(), rel=1e-6)
    torch.testing.assert_close(gradients[0], gradients[1], rtol=1e-5, atol=1e-8)
    assert sum(pixel_counts(labels[i : i + 2], balance) for i in (0, 2, 4)).equal(counts)


def test_seeds_are_reduced_by_nearest_neighbour():
    """The pixel at the middle of each cell, as Pillow chooses it."""
    seed = np.arange(96, dtype=np.uint8).reshape(8, 12)
    expected = np.asarray(Image.fromarray(seed).resize((3, 2), Image.Resampling.NEAREST))
    assert reduce_labels(torch.from_numpy(seed)[None], 2, 3)[0].tolist() == expected.tolist()
    assert expected[0, 0] == 2 * 12 + 2


def test_conditioning_multiplies_the_features_by_a_linear_function_of_the_labels():
    torch.manual_seed(0)
    network = AmnNetwork(TinyBackbone(8), 3, (1, 2), 0.1, label_conditioning=True).eval()
    image, labels = torch.randn(2, 3, 32, 48), torch.tensor([[1.0, 0, 1], [0, 0, 0]])
    conditioning = network.label_conditioning
    assert conditioning is not None
    with torch.no_grad():
        factors = labels @ conditioning.weight.T + conditioning.bias
        features = network.backbone(image) * factors[:, :, None, None]
        expected = sum(branch(features) for branch in network.classifier.branches)
        found = network(image, labels)
    assert found.shape == (2, 4, 2, 3)
    torch.testing.assert_close(found, expected)


def test_without_conditioning_the_labels_do_not_matter():
    torch.manual_seed(0)
    network = AmnNetwork(TinyBackbone(8), 3, (1,), 0.0, label_conditioning=False).eval()
    image = torch.randn(1, 3, 32, 32)
    with torch.no_grad():
        assert network(image, torch.zeros(1, 3)).equal(network(image, torch.ones(1, 3)))


def test_dropout_works_in_training_alone():
    torch.manual_seed(0)
    network = AmnNetwork(TinyBackbone(8), 3, (1,), 0.5, label_conditioning=True)
    image, labels = torch.randn(1, 3, 32, 32), torch.ones(1, 3)
    with torch.no_grad():
        network.eval()
        assert network(image, labels).equal(network(image, labels))
        network.train()
        assert not network(image, labels).equal(network(image, labels))
