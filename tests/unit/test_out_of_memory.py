"""A GPU whose memory does not suffice: smaller micro-batches, the same steps."""

import logging

import pytest
import torch

from tests.tiny_training import SmallMemory, tiny_settings, tiny_train
from workflow_scripts.errors import InputError
from workflow_scripts.models.multi_scale import in_halves


def test_the_micro_batch_is_halved_until_it_fits_and_that_is_said(tmp_path, caplog):
    task = SmallMemory(1)
    with caplog.at_level(logging.WARNING):
        tiny_train(tmp_path, tiny_settings(), task)
    assert set(task.batches) == {1}
    assert "going on with micro-batches of 2" in caplog.text
    assert "going on with micro-batches of 1, same effective batch" in caplog.text


def test_the_steps_are_those_of_the_whole_batch(tmp_path):
    settings = tiny_settings()
    expected, history = tiny_train(tmp_path / "large", settings, dropout=0.0)
    found, small = tiny_train(tmp_path / "small", settings, SmallMemory(2), dropout=0.0)
    assert [row["steps"] for row in small.rows] == [row["steps"] for row in history.rows]
    for name in expected:
        torch.testing.assert_close(found[name], expected[name], rtol=1e-4, atol=1e-5)


def test_memory_for_less_than_one_image_is_the_users_matter(tmp_path):
    with pytest.raises(InputError, match="for one image; lower"):
        tiny_train(tmp_path, tiny_settings(), SmallMemory(0))


@pytest.mark.parametrize("room", [1, 2, 3, 7])
def test_inference_halves_its_batch(room, caplog):
    seen = []

    def compute(some):
        if len(images[some]) > room:
            raise torch.OutOfMemoryError
        seen.append(len(images[some]))
        return [2 * image for image in images[some]]

    images = torch.arange(14.0).reshape(7, 2)
    assert torch.stack(in_halves(compute, 7)).equal(2 * images)
    assert sum(seen) == 7 and max(seen) <= room
    assert ("out of GPU memory" in caplog.text) == (room < 7)


def test_an_image_that_does_not_fit_is_said_by_torch():
    def compute(some):
        raise torch.OutOfMemoryError

    with pytest.raises(torch.OutOfMemoryError):
        in_halves(compute, 4)
