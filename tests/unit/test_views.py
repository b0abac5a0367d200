"""Images as networks see them: the same numbers on every device."""

import numpy as np
import pytest
import torch

from workflow_scripts.datasets.transforms import normalise, rescale_to
from workflow_scripts.models.views import (
    downloaded,
    normalised,
    resize,
    resize_by_integers,
    upload,
)

CPU = torch.device("cpu")
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def noise(count: int, height: int, width: int) -> list[np.ndarray]:
    rng = np.random.default_rng(height)
    return [rng.integers(0, 256, (height, width, 3), np.uint8) for _ in range(count)]


@pytest.mark.parametrize(("height", "width"), [(75, 100), (33, 58), (7, 5), (1, 3)])
@pytest.mark.parametrize("scale", [0.06, 0.33, 0.5, 0.75, 1.0, 1.1, 1.5, 2.0])
def test_a_gpu_resizes_to_the_bytes_of_pillow(height: int, width: int, scale: float):
    images = noise(2, height, width)
    size = tuple(max(1, round(side * scale)) for side in (height, width))
    expected = np.stack([rescale_to(image, *size) for image in images])
    pixels = upload(images, CPU)
    assert np.array_equal(resize_by_integers(pixels, *size).numpy(), expected)
    assert np.array_equal(resize(pixels, *size).numpy(), expected)


def test_views_are_normalised_as_ever_and_lie_as_networks_want_them():
    images = noise(3, 9, 14)
    found = normalised(upload(images, CPU), MEAN, STD)
    assert found.is_contiguous(memory_format=torch.channels_last)
    for one, image in zip(found, images, strict=True):
        assert np.array_equal(one.numpy(), normalise(image, MEAN, STD))


def test_an_image_that_nobody_may_write_to_is_left_alone():
    [image] = noise(1, 4, 5)
    image.flags.writeable = False
    before = image.copy()
    normalised(upload([image], CPU), MEAN, STD)
    assert np.array_equal(image, before)


def test_tensors_come_back_as_they_are_in_one_copy():
    tensors = [torch.rand(2, 3, 4), torch.zeros(0, 5), torch.rand(7)[::2], torch.tensor(3.0)]
    found = downloaded(tensors)
    assert [one.shape for one in found] == [tuple(one.shape) for one in tensors]
    for one, tensor in zip(found, tensors, strict=True):
        assert np.array_equal(one, tensor.numpy())
