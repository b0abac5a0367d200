"""Large photographs in tiles: the same labels as of the whole image, whatever its size."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from workflow_scripts.models import large_images
from workflow_scripts.models.large_images import add_resized_part, maps_in_tiles, tiles
from workflow_scripts.models.multi_scale import add_resized, maps_at_scales
from workflow_scripts.refinement import prediction
from workflow_scripts.settings.evaluation import EvaluateSegmentationSettings
from workflow_scripts.training import inference_pipeline

CPU = torch.device("cpu")


class Same(nn.Module):
    """Two strided convolutions that pad as TensorFlow does, by the size, and a dilated one."""

    stride, pads = 4, False
    mean, std = (0.5, 0.5, 0.5), (0.25, 0.25, 0.25)

    def __init__(self) -> None:
        super().__init__()
        self.backbone: Any = [self]
        torch.manual_seed(0)
        self.layers = nn.ModuleList(nn.Conv2d(c, 8, 3, 2) for c in (3, 8))
        self.last = nn.Conv2d(8, 5, 3, padding=2, dilation=2)

    def forward(self, images: Tensor) -> Tensor:
        for layer in self.layers:
            height, width = (
                max((-(-side // 2) - 1) * 2 + 3 - side, 0) for side in images.shape[-2:]
            )
            edges = (width // 2, width - width // 2, height // 2, height - height // 2)
            images = torch.relu(layer(F.pad(images, edges)))
        return 9 * self.last(images)


@pytest.fixture
def network(monkeypatch: pytest.MonkeyPatch) -> Same:
    """Tiles of 96 pixels with overlaps of 16, in place of thousands."""
    for module in (large_images, prediction):
        monkeypatch.setattr(module, "UNIT", 8)
        monkeypatch.setattr(module, "LARGE", 96 * 96)
    made = Same().eval()
    made.__dict__["backbone"] = made
    return made


def photograph(height: int, width: int) -> np.ndarray:
    coarse = torch.rand(1, 3, height // 9, width // 9, generator=torch.Generator().manual_seed(1))
    smooth = F.interpolate(coarse, size=(height, width), mode="bicubic").clamp(0, 1)
    return (255 * smooth[0].permute(1, 2, 0)).to(torch.uint8).numpy()


@pytest.mark.parametrize("length", [1, 95, 96, 97, 103, 104, 160, 161, 200, 333, 1000])
def test_cores_of_tiles_are_the_whole_and_lie_inside(length: int) -> None:
    found = tiles(length, 8)
    covered = [pixel for tile in found for pixel in range(tile.core.start, tile.core.stop)]
    assert covered == list(range(length))
    for tile in found:
        assert tile.seen.start <= tile.core.start < tile.core.stop <= tile.seen.stop
        assert tile.seen.start % 8 == 0
        assert (tile.seen.stop - tile.seen.start) % 8 == length % 8
        assert tile.seen.stop - tile.seen.start <= 96 + 7
        assert tile.core.start == 0 or tile.core.start - tile.seen.start >= 16
        assert tile.core.stop == length or tile.seen.stop - tile.core.stop >= 16


@pytest.mark.parametrize("size", [(200, 300), (97, 161), (150, 40), (211, 333)])
@pytest.mark.parametrize("flip", [False, True])
def test_maps_are_those_of_the_whole_image(
    network: Same, size: tuple[int, int], flip: bool
) -> None:
    image = photograph(*size)
    scales = (1.0, 0.5, 1.5)
    whole = maps_at_scales(image, scales, network, network, CPU, flip)  # type: ignore[arg-type]
    parts = maps_in_tiles(image, scales, network, network, CPU, flip)  # type: ignore[arg-type]
    for one, other in zip(whole, parts, strict=True):
        assert one.shape == other.shape
        # Values between pixels are rounded to whole ones on their way, here and there.
        assert (one - other).abs().max() <= 0.02 * one.abs().max()


def test_parts_of_enlarged_maps(network: Same) -> None:
    maps = [torch.rand(1, 3, 7, 5), torch.rand(1, 3, 20, 13)]
    whole = add_resized(maps, 90, 61)
    part = add_resized_part(maps, (90, 61), slice(13, 70), slice(5, 61))
    torch.testing.assert_close(part, whole[:, 13:70, 5:61])


@pytest.mark.parametrize("scales", [(1.0,), (0.75, 1.0, 1.25)])
def test_labels_are_those_of_the_whole_image(
    network: Same, monkeypatch: pytest.MonkeyPatch, scales: tuple[float, ...]
) -> None:
    image = photograph(310, 425)
    settings = EvaluateSegmentationSettings(scales=scales, flip=True)
    in_tiles = prediction.predict(network, image, settings, CPU)
    monkeypatch.setattr(prediction, "LARGE", image.size * 100)
    whole = prediction.predict(network, image, settings, CPU)
    assert in_tiles.shape == whole.shape == (310, 425)
    assert len(np.unique(whole)) > 2
    assert (in_tiles == whole).mean() >= 0.995


@pytest.mark.parametrize(
    ("refine", "size"), [(False, (40, 30)), (True, (40, 30)), (True, (120, 90))]
)
def test_scores_weigh_what_is_held_of_them(
    network: Same, refine: bool, size: tuple[int, int]
) -> None:
    image = photograph(*size)
    settings = EvaluateSegmentationSettings(scales=(1.0,), refine=refine)
    if size[0] * size[1] > prediction.LARGE:
        expected = size[0] * size[1]
    else:
        [scores] = prediction._scores(network, [image], settings, CPU, torch.float32)
        expected = scores.nbytes
    assert prediction._bytes_of_scores(image, 4, settings) == expected


def test_probabilities_that_wait_for_others_are_counted(
    network: Same, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each image is of another size, so that all wait as long as there is room."""
    monkeypatch.setattr(inference_pipeline, "MOST_WAITING", 100_000)
    monkeypatch.setitem(inference_pipeline.PIXELS, "cpu", 2**23)
    monkeypatch.setattr(prediction, "_labels", lambda image, scores, settings: scores[0])
    drawn = []

    def images() -> Iterator[tuple[int, np.ndarray]]:
        for number in range(20):
            drawn.append(number)
            yield number, photograph(40 + number, 40)

    settings = EvaluateSegmentationSettings(scales=(1.0,), refine=True)
    found = prediction.predictions(network, images(), settings, CPU, torch.float32, 1, 4)
    ahead = [len(drawn) - number for number, _, _ in found]
    # 23 bytes a pixel, of 1,600 to 2,360 pixels.
    assert len(ahead) == 20 and max(ahead) <= 10
