"""Activations against a straightforward implementation of the paper's and the published formulas."""

from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from tests import backbones
from tests.tiny_backbone import TinyBackbone
from workflow_scripts.datasets.index import ImageRecord
from workflow_scripts.doors.method import LabelledImage
from workflow_scripts.models.classification import CamNetwork, cam_activations
from workflow_scripts.models.multi_scale import (
    add_resized,
    maps_at_scales,
)
from workflow_scripts.models.per_pixel import AmnNetwork, amn_activations, channels_to_keep
from workflow_scripts.refinement.thresholding import local_labels
from workflow_scripts.storage.activation_maps import (
    ActivationMaps,
    AmnMaps,
    CamMaps,
    mixed_normalisation,
    normalise_by_maximum,
)
from workflow_scripts.storage.activations import (
    ActivationReader,
    ActivationWriter,
)

SCALES = (1.0, 0.5, 1.5, 2.0)
CPU = torch.device("cpu")
MEAN, STD = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
LABELS = (2, 5)
CLASSES = 5


def photograph(height: int, width: int, seed: int = 0) -> np.ndarray:
    """Smooth colours with some noise."""
    rng = np.random.default_rng(seed)
    small = Image.fromarray(rng.integers(0, 256, (5, 6, 3), dtype=np.uint8))
    image = np.asarray(small.resize((width, height), Image.Resampling.BICUBIC)).astype(float)
    return np.clip(image + rng.normal(0, 6, image.shape), 0, 255).astype(np.uint8)


def views(image: np.ndarray, scale: float) -> list[Tensor]:
    """The normalised image at a scale, [3, h, w], and its mirror image."""
    size = (round(image.shape[1] * scale), round(image.shape[0] * scale))
    resized = Image.fromarray(image).resize(size, Image.Resampling.BICUBIC) if scale != 1 else image
    normalised = (np.asarray(resized) / 255.0 - MEAN) / STD
    view = torch.from_numpy(normalised.transpose(2, 0, 1)).float()
    return [view, torch.flip(view, (2,))]


def cam_of(network: CamNetwork, image: np.ndarray, labels, scales) -> CamMaps:
    """Of one image."""
    given = LabelledImage(image, tuple(labels), network.classifier.out_channels)
    return cam_activations(network, [given], scales, CPU)[0]


def amn_of(network: AmnNetwork, image: np.ndarray, labels, classes: int, seed, scales) -> AmnMaps:
    """Of one image."""
    given = LabelledImage(image, tuple(labels), classes, seed)
    return amn_activations(network, [given], scales, CPU)[0]


def reference_sum(image: np.ndarray, size: tuple[int, int], maps_of) -> Tensor:
    """Maps of every scale and mirror image, one after another, added at `size`."""
    total = None
    for scale in SCALES:
        for mirrored, view in enumerate(views(image, scale)):
            maps = maps_of(view[None])
            maps = torch.flip(maps, (3,)) if mirrored else maps
            resized = F.interpolate(maps, size, mode="bilinear", align_corners=False)[0]
            total = resized if total is None else total + resized
    assert total is not None
    return total


def reference_cam(
    network: CamNetwork, image: np.ndarray, rounded: tuple[int, int], size: tuple[int, int]
) -> Tensor:
    weight = network.classifier.weight
    maps = reference_sum(image, rounded, lambda v: F.relu(F.conv2d(network.backbone(v), weight)))
    present = maps[[label - 1 for label in LABELS], : size[0], : size[1]]
    return torch.stack([channel / (channel.max() + 1e-5) for channel in present])


def reference_amn(
    network: AmnNetwork,
    image: np.ndarray,
    seed: np.ndarray,
    size: tuple[int, int],
    present: tuple[int, ...] = LABELS,
) -> Tensor:
    labels = torch.zeros(1, CLASSES)
    labels[0, [label - 1 for label in present]] = 1
    logits = reference_sum(image, size, lambda view: network(view, labels)) / (2 * len(SCALES))
    probabilities = torch.softmax(logits, dim=0)[[0, *present]]
    result = probabilities.clone()
    for channel, probability in enumerate(probabilities):
        low, high = probability.min(), probability.max()
        stretched = (probability - low) / (high - low + 1e-5)
        result[channel] = torch.where(torch.from_numpy(seed != 0), stretched, probability)
    return result[1:]


@pytest.fixture(scope="module", params=["tiny", "resnet50"])
def networks(request: pytest.FixtureRequest) -> tuple[CamNetwork, AmnNetwork]:
    torch.manual_seed(0)
    tiny = request.param == "tiny"
    backbone = TinyBackbone(16) if tiny else backbones.build(name="resnet50")
    cam = CamNetwork(backbone, CLASSES).eval()
    amn = AmnNetwork(backbone, CLASSES, (1, 2), 0.1, label_conditioning=True).eval()
    return cam, amn


@pytest.mark.parametrize(("height", "width"), [(64, 48), (43, 58)])
def test_cam_equals_the_formulas(networks, height: int, width: int):
    """Full size is reached by way of the size rounded up to a multiple of 16, stride 4 directly."""
    network, image = networks[0], photograph(height, width)
    size = (-(-height // 4), -(-width // 4))
    found = cam_of(network, image, LABELS, SCALES)
    rounded = (16 * -(-height // 16), 16 * -(-width // 16))
    with torch.no_grad():
        strided = reference_cam(network, image, size, size)
        full = reference_cam(network, image, rounded, (height, width))
    assert found.strided().shape == (2, *size)
    for maps in (found, found.as_stored()):
        np.testing.assert_allclose(maps.strided(), strided.numpy(), atol=1e-3)
        np.testing.assert_allclose(maps.activation(), full.numpy(), atol=1e-3)
    assert full.min() >= 0 and full.max() == pytest.approx(1, abs=1e-2)


def test_amn_equals_the_formulas(networks):
    network, image = networks[1], photograph(43, 58)
    size = (11, 15)
    seed = np.zeros((43, 58), np.uint8)
    seed[10:30, 20:40], seed[35:] = LABELS[0], 255
    rows, columns = (np.floor((np.arange(n) + 0.5) * full / n).astype(int)
                     for n, full in zip(size, seed.shape, strict=True))  # fmt: skip
    found = amn_of(network, image, LABELS, CLASSES, seed, SCALES)
    with torch.no_grad():
        strided = reference_amn(network, image, seed[np.ix_(rows, columns)], size)
        full = reference_amn(network, image, seed, seed.shape)
    np.testing.assert_allclose(found.strided(), strided.numpy(), atol=1e-3)
    np.testing.assert_allclose(found.activation(), full.numpy(), atol=1e-3)
    stored = found.as_stored()
    np.testing.assert_allclose(stored.strided(), strided.numpy(), atol=1e-3)
    np.testing.assert_allclose(stored.activation(), full.numpy(), atol=1e-3)


def test_amn_of_an_image_that_shows_all_classes_equals_the_formulas_to_the_last_digit(networks):
    network, image = networks[1], photograph(43, 58)
    seed = np.full((43, 58), 255, np.uint8)
    seed[10:30, 20:40] = 0
    everything = tuple(range(1, CLASSES + 1))
    found = amn_of(network, image, everything, CLASSES, seed, SCALES)
    with torch.no_grad():
        full = reference_amn(network, image, seed, seed.shape, everything)
    assert len(found.absent) == 0
    for maps in (found, found.as_stored()):
        np.testing.assert_allclose(maps.activation(), full.numpy(), atol=1e-3)


def block_means(images: Tensor) -> Tensor:
    """Maps without any learning: the means of red, green and blue over blocks of 16 × 16 pixels."""
    colours = images * torch.tensor(STD)[:, None, None] + torch.tensor(MEAN)[:, None, None]
    rows, columns = (-side % 16 for side in images.shape[-2:])
    padded = F.pad(colours.float(), (0, columns, 0, rows), mode="replicate")
    return F.avg_pool2d(padded, 16)


class ColourCam(CamNetwork):
    """Sees colours alone."""

    def __init__(self) -> None:
        super().__init__(TinyBackbone(1), 3)

    def activations(self, images: Tensor) -> Tensor:
        return block_means(images)


class ColourAmn(AmnNetwork):
    """Sees colours alone: logits of background and two classes."""

    def __init__(self) -> None:
        super().__init__(TinyBackbone(1), 2, (1,), 0.0, label_conditioning=False)

    def forward(self, images: Tensor, labels: Tensor) -> Tensor:
        means = block_means(images)
        return torch.cat([means[:, :1] * 0 + 0.5, means[:, :2]], dim=1) * 5


def two_discs(height: int, width: int) -> np.ndarray:
    """A red and a green disc with soft borders."""
    y, x = np.mgrid[:height, :width]
    image = np.zeros((height, width, 3), np.uint8)
    for channel, (row, column, radius) in enumerate([(0.3, 0.3, 0.25), (0.8, 0.7, 0.3)]):
        distance = np.hypot(y - row * height, x - column * width)
        image[..., channel] = 255 / (1 + np.exp((distance - radius * height) / 8))
    return image


def stored_and_read(folder: Path, maps: ActivationMaps, labels: tuple[int, ...]) -> np.ndarray:
    """Activations of full size by way of a shard."""
    size = maps.height, maps.width
    record = ImageRecord("picture", Path("picture.jpg"), *reversed(size), "train", labels, None)
    path = folder / "shard.safetensors"
    with ActivationWriter(path, [record], type(maps)) as writer:
        writer.write("picture", maps)
    with ActivationReader(path) as reader:
        found = reader.read_full("picture", *size)
    assert np.array_equal(found, maps.as_stored().activation())
    return found


@pytest.mark.parametrize(("height", "width"), [(160, 160), (187, 250), (281, 353)])
def test_stored_cam_gives_the_labels_of_the_full_one(tmp_path, height: int, width: int):
    """Half precision changes fewer than one label in a thousand."""
    network, labels, image = ColourCam(), (1, 2), two_discs(height, width)
    rounded = (16 * -(-height // 16), 16 * -(-width // 16))
    total = reference_sum(image, rounded, block_means)[:2, :height, :width]
    full = (total / (total.amax(dim=(1, 2), keepdim=True) + 1e-5)).numpy()
    enlarged = stored_and_read(tmp_path, cam_of(network, image, labels, SCALES), labels)
    assert np.abs(enlarged - full).max() < 1e-3
    for threshold in (0.05, 0.1, 0.3, 0.5, 0.7, 0.9):
        same = local_labels(full, threshold) == local_labels(enlarged, threshold)
        assert same.mean() >= 0.999, threshold


@pytest.mark.parametrize(("height", "width"), [(281, 353), (333, 500)])
def test_stored_amn_gives_the_labels_of_the_full_one(tmp_path, height: int, width: int):
    """So does AMN's, though it jumps where the seed begins."""
    network, labels, image = ColourAmn(), (1, 2), two_discs(height, width)
    seed = np.where(image.max(axis=2) < 40, 0, np.where(image[..., 0] > 200, 1, 255))
    seed = seed.astype(np.uint8)
    logits = reference_sum(image, (height, width), lambda view: network(view, torch.zeros(1, 2)))
    probabilities = torch.softmax(logits / (2 * len(SCALES)), dim=0)[1:].numpy()
    low = probabilities.min(axis=(1, 2), keepdims=True)
    high = probabilities.max(axis=(1, 2), keepdims=True)
    full = np.where(seed != 0, (probabilities - low) / (high - low + 1e-5), probabilities)
    found = amn_of(network, image, labels, 2, seed, SCALES)
    enlarged = stored_and_read(tmp_path, found, labels)
    for threshold in (0.15, 0.25, 0.45, 0.6, 0.8):
        same = local_labels(full, threshold) == local_labels(enlarged, threshold)
        assert same.mean() >= 0.999, threshold


def test_stored_maps_of_an_untrained_amn_give_the_labels_of_the_full_ones(networks):
    """Noise from cell to cell, in a range of probabilities that is narrow, and a seed full of holes."""
    network, image = networks[1], photograph(133, 170)
    random = np.random.default_rng(0)
    seed = np.kron(random.choice([0, 0, 2, 255], (19, 17)), np.ones((7, 10))).astype(np.uint8)
    with torch.no_grad():
        full = reference_amn(network, image, seed, seed.shape).numpy()
    found = amn_of(network, image, LABELS, CLASSES, seed, SCALES).as_stored()
    for threshold in (0.05, 0.15, 0.25, 0.45, 0.6):
        same = local_labels(full, threshold) == local_labels(found.activation(), threshold)
        assert same.mean() >= 0.999, threshold


def test_channels_are_kept_by_their_share_and_none_is_lost():
    """Background, two labels, one absent class that counts; three are left, two of no share at all."""
    logits = torch.tensor([0.0, 5.0, -300.0, 4.0, -300.0, -300.0, -20.0])
    maps = [logits[None, :, None, None].expand(1, 7, 2, 3)]
    kept, left = channels_to_keep(maps, (1, 5), (4, 5))
    assert kept.tolist() == [0, 1, 5, 3]
    assert left.tolist() == [6, 2, 4]


def test_half_precision_holds_for_slivers_too(networks):
    """A feature map of one column: torch's bfloat16 convolutions fail there on some CPUs."""
    network, image = networks[0], photograph(150, 16)
    expected = cam_of(network, image, LABELS, (1.0, 0.5)).activation()
    with torch.autocast("cpu", torch.bfloat16):
        found = cam_of(network, image, LABELS, (1.0, 0.5)).activation()
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_amn_is_computed_in_float32_beyond_the_network(networks):
    network, image, seed = networks[1], photograph(43, 58), np.zeros((43, 58), np.uint8)
    with torch.autocast("cpu", torch.bfloat16):
        maps = amn_of(network, image, LABELS, CLASSES, seed, (1.0,))
    arrays = (*maps.logits, maps.absent, maps.absent_strided)
    assert {array.dtype for array in arrays} == {np.dtype(np.float32)}


def test_without_mirror_images_there_is_half_the_sum_of_a_symmetric_picture():
    torch.manual_seed(0)
    network = CamNetwork(TinyBackbone(8), 2).eval()
    half = photograph(32, 32)
    image = np.concatenate([half, half[:, ::-1]], axis=1)
    once, twice = (
        add_resized(
            maps_at_scales(image, (1.0,), network.backbone, network.activations, CPU, flip=flip),
            8,
            16,
        )
        for flip in (False, True)
    )
    torch.testing.assert_close(twice, once + once.flip(-1), rtol=1e-4, atol=1e-5)


def test_mixed_normalisation_by_hand():
    probabilities = np.array([[[0.1, 0.2], [0.3, 0.5]]])
    inside = np.array([[False, True], [True, False]])
    found = mixed_normalisation(probabilities, inside)
    np.testing.assert_allclose(found, [[[0.1, 0.25], [0.5, 0.5]]], atol=1e-4)


def test_a_flat_or_empty_map_stays_finite():
    zero = np.zeros((2, 3, 3))
    assert not normalise_by_maximum(zero).any()
    assert not mixed_normalisation(zero, np.ones((3, 3), bool)).any()


def test_an_image_without_labels_has_maps_without_channels():
    maps = CamMaps((np.zeros((0, 3, 4), np.float32),), 45, 58).as_stored()
    assert maps.activation().shape == (0, 45, 58)
    assert maps.strided().shape == (0, 12, 15)


def test_a_backbone_that_pads_sees_whole_patches_that_cover_the_image():
    """Padding would stand right of an image, and left of its mirror image once that is turned back."""
    backbone = backbones.build(name="vit_tiny_patch16_224").eval()
    seen = []

    def columns(batch: Tensor) -> Tensor:
        """Each cell's place: 0 at the left border of the view, 1 at its right one."""
        seen.append(tuple(batch.shape[-2:]))
        rows, width = (side // 16 for side in batch.shape[-2:])
        place = (torch.arange(width) + 0.5) / width
        return torch.stack([place, 1 - place])[:, None, None].expand(2, 1, rows, width)

    maps = maps_at_scales(photograph(75, 99), [1.0, 0.5], backbone, columns, CPU)
    assert seen == [(80, 96), (32, 48)]
    for one in maps:
        # The mirrored view's places meet those of the view: the middle stays in the middle.
        width = one.shape[-1]
        expected = 2 * (torch.arange(width) + 0.5) / width
        torch.testing.assert_close(one[0, 0, 0], expected)
    cam = CamNetwork(backbone, CLASSES).eval()
    found = cam_of(cam, photograph(75, 99), LABELS, [1.0])
    assert found.cell == 1 and found.activation().shape == (2, 75, 99)


def test_activations_of_a_method_lie_in_0_to_1_before_they_are_resized(monkeypatch):
    from workflow_scripts.doors.method import Method
    from workflow_scripts.errors import InputError
    from workflow_scripts.models.trained import activations_of

    class Given:
        name = "given"

        def __init__(self, array):
            self.array = array

        def maps(self):
            return None

        def activations(self, *_):
            return self.array

        activations_together = Method.activations_together

    image = LabelledImage(photograph(40, 60), (1,), 3)
    fine = np.linspace(0, 1, 40 * 60).reshape(1, 40, 60)
    assert activations_of(Given(fine), None, [image], None, CPU)[0].shape == (1, 10, 15)
    for wrong in (
        3 * fine,
        fine - 1,
        np.full((1, 8, 8), np.nan),
        255 * np.ones((1, 10, 15), np.uint8),
    ):
        with pytest.raises(InputError, match=r"expected numbers in 0…1"):
            activations_of(Given(wrong), None, [image], None, CPU)
    for wrong in (fine[0], fine.repeat(2, 0), None):
        with pytest.raises(InputError, match=r"expected an array of \[1 \(the image's labels\)"):
            activations_of(Given(wrong), None, [image], None, CPU)
