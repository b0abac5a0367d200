import itertools
import os
from collections.abc import Iterator

import pytest

from workflow_scripts.datasets.parallel import BATCHES_A_PROCESS, TASKS_A_BATCH, ordered_map
from workflow_scripts.errors import InputError


def square(number: int) -> int:
    if number == -1:
        raise InputError("a.jpg: broken")
    if number == -2:
        os._exit(1)
    return number * number


@pytest.mark.parametrize("processes", [1, 2])
def test_results_come_in_order(processes: int):
    assert list(ordered_map(square, range(100), processes)) == [n * n for n in range(100)]


@pytest.mark.parametrize("processes", [1, 2])
def test_tasks_are_drawn_as_needed(processes: int):
    drawn = 0

    def endless() -> Iterator[int]:
        nonlocal drawn
        while True:
            drawn += 1
            yield drawn

    results = ordered_map(square, endless(), processes)
    assert list(itertools.islice(results, 5)) == [1, 4, 9, 16, 25]
    assert drawn <= processes * TASKS_A_BATCH * (BATCHES_A_PROCESS + 1)
    results.close()  # type: ignore[attr-defined]


@pytest.mark.parametrize("processes", [1, 2])
def test_errors_come_back(processes: int):
    with pytest.raises(InputError, match=r"a\.jpg: broken"):
        list(ordered_map(square, [1, 2, -1, 4], processes))


def test_a_worker_that_dies_is_told():
    with pytest.raises(InputError, match="worker processes died"):
        list(ordered_map(square, [1, -2, 3], 2))
