import numpy as np
import pytest

from workflow_scripts.training.randomness import (
    AUGMENTATION,
    ORDER,
    StepSampler,
    epoch_order,
    generator,
    step_batch,
    steps_per_epoch,
)


def test_an_epoch_visits_every_image_and_fills_the_last_batch_with_its_first():
    assert steps_per_epoch(10, 4) == 3
    visited = [pair for step in range(3, 6) for pair in step_batch(5, step, 10, 4)]
    assert {epoch for epoch, _ in visited} == {1}
    numbers = [image for _, image in visited]
    assert sorted(numbers[:10]) == list(range(10))
    assert numbers[10:] == numbers[:2]
    assert numbers[:10] == epoch_order(5, 1, 10).tolist()


def test_a_set_smaller_than_a_batch_is_repeated():
    numbers = [image for _, image in step_batch(0, 0, 3, 8)]
    assert len(numbers) == 8
    assert sorted(numbers[:3]) == [0, 1, 2]
    assert numbers[3:6] == numbers[:3]


def test_the_order_is_a_function_of_seed_and_epoch():
    assert epoch_order(1, 4, 50).tolist() == epoch_order(1, 4, 50).tolist()
    orders = {tuple(epoch_order(seed, epoch, 50)) for seed in range(4) for epoch in range(4)}
    assert len(orders) == 16


def test_purposes_draw_independent_numbers():
    assert generator(1, ORDER, 2).integers(2**62) != generator(1, AUGMENTATION, 2).integers(2**62)


def test_a_sampler_that_starts_late_goes_on_as_if_it_had_not_stopped():
    whole = list(StepSampler(3, 10, 4, 0, 9))
    late = StepSampler(3, 10, 4, 5, 9)
    assert list(late) == whole[5:]
    assert len(late) == 4


@pytest.mark.parametrize("processes", [2, 3])
def test_processes_share_each_batch(processes: int):
    whole = list(StepSampler(3, 20, 6, 0, 8))
    shares = [list(StepSampler(3, 20, 6, 0, 8, rank, processes)) for rank in range(processes)]
    for step, batch in enumerate(whole):
        parts = [share[step] for share in shares]
        assert {len(part) for part in parts} == {6 // processes}
        assert sorted(pair for part in parts for pair in part) == sorted(batch)


def test_batches_are_plain_numbers():
    epoch, image = step_batch(0, 7, 10, 4)[0]
    assert isinstance(epoch, int) and isinstance(image, int) and not isinstance(image, np.integer)
