"""Affinity against a plain implementation of the formulas, and attention against timm's own."""

import numpy as np
import pytest
import torch
from torch import nn

from tests import backbones
from tests.tiny_backbone import TinyBackbone
from workflow_scripts.doors.method import METHODS, LabelledImage
from workflow_scripts.errors import InputError
from workflow_scripts.methods.vit_cam import VitCam, pooled
from workflow_scripts.models.attention_affinity import (
    AttentionRecorder,
    affinity,
    feature_likeness,
    inside_boxes,
    spread,
)
from workflow_scripts.models.feature_maps import Level, PyramidBackbone
from workflow_scripts.settings.base import validate

CPU = torch.device("cpu")


def plain_spread(attention: np.ndarray, one: np.ndarray, boxes: list[tuple[slice, slice]]):
    """The published formulas, number by number, in float64."""
    transition = attention.astype(np.float64)
    for _ in range(3):
        for column in range(len(transition)):
            transition[:, column] /= transition[:, column].sum()
        for row in range(len(transition)):
            transition[row] /= transition[row].sum()
    transition = (transition + transition.T) / 2
    squared = transition @ transition
    mask = np.zeros(one.shape)
    for box in boxes:
        mask[box] = 1
    one = one - one.min()
    moved = ((squared * mask.reshape(1, -1)) @ one.reshape(-1)).reshape(one.shape)
    return moved - moved.min()


def test_spreading_is_that_of_the_formulas():
    rng = np.random.default_rng(0)
    attention = rng.random((2, 30, 30)).astype(np.float32) ** 4 + 1e-4
    maps = 0.1 + rng.random((2, 1, 5, 6)).astype(np.float32) * 0.3
    maps[:, 0, 1, 1] = maps[:, 0, 2, 2] = 1.0  # neighbours across a corner: one box
    maps[:, 0, 4, 5] = 0.9  # a box of its own, at the border
    found = spread(torch.from_numpy(maps), affinity(torch.from_numpy(attention)), 0.4)
    boxes = [(slice(1, 3), slice(1, 3)), (slice(4, 5), slice(5, 6))]
    for image in range(2):
        expected = plain_spread(attention[image], maps[image, 0], boxes)
        np.testing.assert_allclose(found[image, 0].numpy(), expected, rtol=1e-4, atol=1e-6)


def test_an_affinity_is_symmetric_and_nearly_doubly_stochastic():
    torch.manual_seed(0)
    found = affinity(torch.rand(1, 40, 40))[0]
    torch.testing.assert_close(found, found.T)
    torch.testing.assert_close(found.sum(dim=0), torch.ones(40), atol=1e-3, rtol=0)


def test_boxes_hold_all_parts_and_nothing_else():
    maps = torch.zeros(1, 4, 5)
    maps[0, 0, 0] = 1.0
    maps[0, 2:4, 3:] = torch.tensor([[0.0, 0.5], [0.5, 0.0]])
    inside = inside_boxes(maps, 0.4)[0]
    expected = torch.zeros(4, 5, dtype=torch.bool)
    expected[0, 0] = True
    expected[2:4, 3:] = True
    assert inside.equal(expected)
    assert not inside_boxes(torch.zeros(1, 2, 2), 0.4).any()


class Blocks(nn.Module):
    """A transformer of timm, whose attention is also written out by a hook."""

    def __init__(self, **options):
        super().__init__()
        from timm.models.vision_transformer import VisionTransformer

        self.body = VisionTransformer(
            img_size=32, patch_size=8, embed_dim=24, depth=3, num_heads=2, num_classes=0,
            dynamic_img_size=True, dynamic_img_pad=True, **options,
        )  # fmt: skip

    def forward(self, images):
        return self.body.forward_intermediates(images, indices=1, intermediates_only=True)


def test_attention_is_the_mean_of_the_last_blocks_without_class_and_register_tokens():
    torch.manual_seed(0)
    network = Blocks(reg_tokens=2, qk_norm=True).eval()
    backbone = PyramidBackbone(network, [Level(24, 8)], attends=True)
    written = []
    for block in network.body.blocks:
        # Not fused, timm applies dropout to the attention itself.
        block.attn.attn_drop.register_forward_hook(
            lambda _module, _given, attention: written.append(attention)
        )
    images = torch.randn(2, 3, 24, 32)
    with torch.no_grad():
        features, attention = backbone.attended(images, 2)
        for block in network.body.blocks:
            block.attn.fused_attn = False
        expected_features = backbone(images)
        with pytest.raises(InputError, match="use `features`"):
            backbone.attended(images, 2)
    assert attention.shape == (2, 12, 12)
    expected = torch.stack(written[1:3]).mean(dim=(0, 2))[:, 3:, 3:]
    torch.testing.assert_close(attention, expected, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(features, expected_features, rtol=1e-4, atol=1e-5)


def test_rotary_embeddings_are_in_the_attention():
    """DINOv3's queries and keys depend on their places."""
    backbone = backbones.build(name="vit_small_patch16_dinov3").eval()
    with torch.no_grad():
        features, attention = backbone.attended(torch.randn(1, 3, 33, 48), 1)
    assert features.shape[-2:] == (3, 3) and attention.shape == (1, 9, 9)
    assert (attention.sum(dim=-1) < 1).all()  # the rest goes to class and register tokens


def test_likeness_of_features_is_a_softmax_of_cosines():
    torch.manual_seed(0)
    features = torch.randn(1, 4, 2, 3)
    found = feature_likeness(features, 0.5)[0]
    cells = features[0].reshape(4, 6).T
    for row in range(6):
        cosines = torch.stack([
            torch.dot(cells[row], other) / cells[row].norm() / other.norm() for other in cells
        ])  # fmt: skip
        torch.testing.assert_close(found[row], (cosines / 0.5).softmax(dim=0))


def test_a_view_of_too_many_cells_is_refused():
    with pytest.raises(InputError, match="leave out the largest of `scales`"):
        feature_likeness(torch.zeros(1, 1, 100, 82), 0.1)


def method(**train: object) -> VitCam:
    return VitCam(validate(METHODS.get("vit_cam").Train, train, "test"))


def test_pooling_lies_between_mean_and_maximum():
    torch.manual_seed(0)
    logits = torch.randn(2, 3, 4, 5)
    mean, highest = pooled(logits, "mean", 1.0), pooled(logits, "max", 1.0)
    torch.testing.assert_close(mean, logits.mean(dim=(2, 3)))
    torch.testing.assert_close(highest, logits.flatten(2).max(dim=2).values)
    torch.testing.assert_close(pooled(logits, "lse", 1e-3), mean, atol=1e-2, rtol=0)
    torch.testing.assert_close(pooled(logits, "lse", 1e3), highest, atol=1e-2, rtol=0)


@pytest.mark.parametrize("source", ["attention", "features", "none"])
def test_its_maps_are_the_classifiers_spread_over_the_affinity(source):
    torch.manual_seed(0)
    backbone = TinyBackbone(6)
    network = method(pooling="max").build(backbone, 3).eval()
    image = LabelledImage(np.full((48, 64, 3), 90, np.uint8), (1, 3), 3)
    image.pixels[10:30, 20:40] = 200
    infer = validate(VitCam.Infer, {"affinity": {"source": source, "box": 0.2}}, "test")
    maps = method().activations(network, image, infer, CPU)
    assert maps.maps[0].shape == (2, 3, 4) and maps.cell == 16
    plain = validate(VitCam.Infer, {"affinity": {"source": "none"}}, "test")
    same = np.allclose(method().activations(network, image, plain, CPU).maps[0], maps.maps[0])
    assert same == (source == "none")


@pytest.mark.parametrize("source", ["attention", "features", "none"])
def test_images_together_have_the_maps_that_each_has_alone(source):
    torch.manual_seed(0)
    backbone = backbones.build(name="vit_tiny_patch16_224")
    network = method().build(backbone, 4).eval()
    pixels = np.random.default_rng(0).integers(0, 255, (4, 50, 70, 3), np.uint8)
    shown = ((2,), (1, 3, 4), (), (1, 2))
    images = [LabelledImage(one, labels, 4) for one, labels in zip(pixels, shown, strict=True)]
    values = {"scales": (1.0, 1.5), "affinity": {"source": source, "box": 0.3}}
    infer = validate(VitCam.Infer, values, "test")
    together = method().activations_together(network, images, infer, CPU)
    for image, found in zip(images, together, strict=True):
        expected = method().activations(network, image, infer, CPU)
        assert (found.height, found.width, found.cell) == (50, 70, 1)
        for one, other in zip(found.maps, expected.maps, strict=True):
            assert one.shape[0] == len(image.labels)
            np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-5)


def test_scores_are_float32_whatever_surrounds():
    """In bfloat16 their third digit would be lost."""
    torch.manual_seed(0)
    features, maps = torch.randn(1, 16, 5, 6), torch.rand(1, 2, 5, 6)
    recorder = AttentionRecorder(1)
    with recorder:
        nn.functional.scaled_dot_product_attention(*torch.randn(3, 1, 2, 30, 16))

    def scores():
        likeness = feature_likeness(features, 0.1)
        return likeness, recorder.mean(30), spread(maps, affinity(likeness), 0.4)

    expected = scores()
    with torch.autocast("cpu", torch.bfloat16):
        found = scores()
    for one, other in zip(found, expected, strict=True):
        assert one.dtype == torch.float32
        torch.testing.assert_close(one, other)
