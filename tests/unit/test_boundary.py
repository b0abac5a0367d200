import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from tests import backbones
from tests.random_walk_oracle import pixels_between
from workflow_scripts.models.boundary import (
    BoundaryNetwork,
    boundary_losses,
    half_disc,
    infer_boundaries,
    pair_counts,
    path_affinities,
    reduce_labels,
)
from workflow_scripts.models.feature_maps import Level, StagedBackbone


class TinyBackbone(StagedBackbone):
    """Five 3×3 convolutions with the strides of ResNet-50, or of networks with a stem of stride 2."""

    def __init__(self, strides: tuple[int, ...] = (4, 4, 8, 16, 16)) -> None:
        channels = (4, 5, 6, 7, 8)
        steps = np.array(strides) // np.array((1, *strides[:-1]))
        layers = {
            f"layer{number}": nn.Sequential(
                nn.Conv2d(a, b, 3, 1, 1), nn.ReLU(), nn.MaxPool2d(int(step), ceil_mode=True)
            )
            for number, (a, b, step) in enumerate(
                zip((3, *channels), channels, steps, strict=False)
            )
        }
        levels = [Level(*level) for level in zip(channels, strides, strict=True)]
        super().__init__(layers, [(name,) for name in layers], levels, frozen_stages=5)


def network(**options) -> BoundaryNetwork:
    torch.manual_seed(0)
    result = BoundaryNetwork(TinyBackbone(**options)).eval()
    for parameter in result.parameters():
        nn.init.normal_(parameter, std=0.3)
    return result


def test_path_affinities_agree_with_loops_on_a_12_by_10_map():
    radius = 5
    edge = torch.rand(1, 12, 10, generator=torch.Generator().manual_seed(0))
    affinity = path_affinities(edge, radius)[0].numpy()
    assert affinity.shape == (34, 8, 2)
    for number, path in enumerate(half_disc(radius)):
        for y in range(8):
            for x in range(2):
                a = (y, x + 4)
                b = (a[0] + path.dy, a[1] + path.dx)
                largest = max(float(edge[0][pixel]) for pixel in pixels_between(a, b))
                assert affinity[number, y, x] == pytest.approx(1 - largest, abs=1e-6)


def test_path_affinities_pass_their_gradient_to_the_largest_edge():
    edge = torch.rand(2, 6, 8, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda e: path_affinities(e, 3), (edge,))


def test_path_affinities_refuse_a_map_without_a_single_pair():
    with pytest.raises(ValueError, match="too small for radius 10"):
        path_affinities(torch.zeros(1, 18, 18), 10)


def losses_by_loops(edge, labels, radius):
    """IRN's losses, pair by pair."""
    sums, counts = np.zeros(3), np.zeros(3)
    batch, height, width = labels.shape
    reach = radius - 1
    for n in range(batch):
        for y in range(height - reach):
            for x in range(reach, width - reach):
                for dy in range(radius):
                    for dx in range(-reach, radius):
                        if not 0 < dy * dy + dx * dx < radius**2 or (dy == 0 and dx < 0):
                            continue
                        a, b = (n, y, x), (n, y + dy, x + dx)
                        if 255 in (labels[a], labels[b]):
                            continue
                        largest = max(edge[n][p] for p in pixels_between(a[1:], b[1:]))
                        kind = 2 if labels[a] != labels[b] else int(labels[a] != 0)
                        counts[kind] += 1
                        sums[kind] += -np.log((largest if kind == 2 else 1 - largest) + 1e-5)
    background, foreground, unlike = np.maximum(counts, 1)
    return counts, [(sums[0] / background + sums[1] / foreground) / 2, sums[2] / unlike]


@pytest.mark.parametrize("values", [[0, 1, 2, 255], [1, 255], [255]])
def test_losses_agree_with_loops_over_pairs(values):
    random = np.random.default_rng(0)
    logits = random.normal(size=(2, 1, 8, 9)) * 2
    labels = np.kron(random.choice(values, (2, 4, 5)), np.ones((1, 2, 2), int))[:, :8, :9]
    edge = 1 / (1 + np.exp(-logits[:, 0]))
    counts, expected = losses_by_loops(edge, labels, 4)
    given = torch.tensor(labels)
    assert pair_counts(given, 4).tolist() == counts.tolist()
    losses = boundary_losses(torch.tensor(logits), given, pair_counts(given, 4), 4)
    np.testing.assert_allclose(losses.numpy(), expected, rtol=1e-4, atol=1e-6)


def test_losses_of_parts_add_up_to_the_loss_of_the_batch():
    torch.manual_seed(0)
    logits, labels = torch.randn(4, 1, 8, 9), torch.randint(0, 3, (4, 8, 9))
    counts = pair_counts(labels, 4)
    whole = boundary_losses(logits, labels, counts, 4)
    halves = [boundary_losses(logits[s], labels[s], counts, 4) for s in (slice(0, 1), slice(1, 4))]
    torch.testing.assert_close(whole, halves[0] + halves[1])


def test_labels_are_reduced_as_pil_does():
    from PIL import Image

    labels = np.random.default_rng(0).integers(0, 256, (32, 48)).astype(np.uint8)
    expected = np.asarray(Image.fromarray(labels).resize((12, 8), Image.Resampling.NEAREST))
    assert (reduce_labels(torch.tensor(labels)[None])[0].numpy() == expected).all()


def branch_by_hand(maps, tensors, prefix, stage, enlarge, groups):
    """1×1 convolution, group normalisation, bilinear enlargement, ReLU."""
    weight = tensors[f"{prefix}.stages.{stage}.conv.weight"]
    name = f"{prefix}.stages.{stage}.norm"
    x = torch.einsum("oi,bihw->bohw", weight[:, :, 0, 0], maps[stage])
    x = F.group_norm(x, groups, tensors[name + ".weight"], tensors[name + ".bias"])
    return F.relu(F.interpolate(x, scale_factor=enlarge, mode="bilinear", align_corners=False))


@pytest.mark.parametrize("size", [(64, 48), (45, 70)])
def test_branches_agree_with_the_published_architecture(size):
    net = network()
    tensors = net.state_dict()
    images = torch.randn(2, 3, *size)
    maps = net.backbone.pyramid(images)
    height, width = maps[1].shape[-2:]
    edges = [
        branch_by_hand(maps, tensors, "edge", i, scale, 4)[..., :height, :width]
        for i, scale in enumerate([1, 1, 2, 4, 4])
    ]
    logits = F.conv2d(torch.cat(edges, 1), tensors["edge.head.weight"], tensors["edge.head.bias"])
    with torch.no_grad():
        ours = net(images)
    assert ours.shape == (2, 1, -(-size[0] // 4), -(-size[1] // 4))
    torch.testing.assert_close(ours, logits, rtol=1e-4, atol=1e-4)


def test_networks_of_earlier_versions_load_without_their_displacement_branch():
    net, old = network(), network(strides=(4, 4, 8, 16, 16)).state_dict()
    net.load_state_dict({**old, "displacement.head.weight": torch.zeros(2, 8, 1, 1)})
    assert all(torch.equal(value, old[key]) for key, value in net.state_dict().items())
    with pytest.raises(RuntimeError, match="elsewhere"):
        net.load_state_dict({**old, "elsewhere": torch.zeros(1)})


@pytest.mark.parametrize("size", [(28, 56), (29, 31)])
def test_a_transformer_gives_boundaries_at_stride_4(size):
    backbone = backbones.build(name="vit_tiny_patch16_224")
    net = BoundaryNetwork(backbone).eval()
    with torch.no_grad():
        logits = net(torch.randn(1, 3, *size))
    assert logits.shape == (1, 1, -(-size[0] // 4), -(-size[1] // 4))


def test_inference_joins_logits_of_the_mirror_image_and_pads():
    net = network()
    image = torch.randn(1, 3, 37, 50)
    edge = infer_boundaries(net, image, least_side=64)
    padded = torch.zeros(2, 3, 64, 64)
    padded[:1, :, :37, :50], padded[1:, :, :37, :50] = image, image.flip(-1)
    with torch.no_grad():
        logits = net(padded)
    logits = logits[:, 0, :10, :13]
    expected = torch.sigmoid((logits[0] + logits[1].flip(-1)) / 2)
    assert edge.shape == (1, 10, 13)
    torch.testing.assert_close(edge[0], expected)
    larger = infer_boundaries(net, torch.randn(1, 3, 70, 20), least_side=64)
    assert larger.shape == (1, 18, 5)


def test_edges_of_a_mirrored_image_are_mirrored():
    net = network()
    image = torch.randn(1, 3, 48, 64)
    edge = infer_boundaries(net, image)
    mirrored = infer_boundaries(net, image.flip(-1))
    torch.testing.assert_close(mirrored, edge.flip(-1))


@pytest.mark.parametrize("strides", [(2, 4, 8, 16, 16), (2, 4, 8, 16, 32), (4, 4, 8, 8, 8)])
def test_other_strides_give_maps_of_stride_4(strides):
    assert network(strides=strides)(torch.randn(1, 3, 70, 45)).shape == (1, 1, 18, 12)


@pytest.mark.parametrize("name", ["resnet50", "efficientnet_lite0"])
def test_backbones_do_not_train_but_the_branch_does(name):
    settings = backbones.settings(name=name, frozen_stages=5)
    net = BoundaryNetwork(settings.build()).train()
    assert not net.backbone.training
    before = {key: value.clone() for key, value in net.backbone.state_dict().items()}
    logits = net(torch.randn(1, 3, 65, 40))
    assert logits.shape[-2:] == (17, 10)
    labels = torch.zeros(1, 17, 10, dtype=torch.long)
    labels[:, 8:] = 1
    boundary_losses(logits, labels, pair_counts(labels, 4), 4).sum().backward()
    for key, parameter in net.named_parameters():
        assert (parameter.grad is None) == key.startswith("backbone.")
    after = net.backbone.state_dict()
    assert all(torch.equal(before[key], after[key]) for key in before)


def test_learning_finds_the_boundary_between_two_halves():
    torch.manual_seed(0)
    net = BoundaryNetwork(TinyBackbone()).train()
    images = torch.randn(2, 3, 48, 64) * 0.1
    images[:, :, :, 30:] += 1.0
    labels = torch.zeros(2, 48, 64, dtype=torch.long)
    labels[:, :, 30:] = 3
    reduced = reduce_labels(labels)
    counts = pair_counts(reduced, 4)
    optimiser = torch.optim.Adam([p for p in net.parameters() if p.requires_grad], lr=3e-3)
    first = None
    for _ in range(40):
        loss = boundary_losses(net(images), reduced, counts, 4).sum() / 2
        first = loss.item() if first is None else first
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    assert loss.item() < 0.6 * first
    edge = infer_boundaries(net.eval(), images)
    assert edge[:, :, 7:9].mean() > 2 * edge[:, :, [2, 3, 12, 13]].mean()
