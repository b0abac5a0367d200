"""One function over many tasks in several processes or threads, in order and with bounded memory."""

import multiprocessing
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from itertools import islice
from typing import TypeVar

from workflow_scripts.errors import InputError

Task = TypeVar("Task")
Result = TypeVar("Result")

TASKS_A_BATCH = 16
BATCHES_A_PROCESS = 4


def _batch(function: Callable[[Task], Result], tasks: list[Task]) -> list[Result]:
    return [function(task) for task in tasks]


def ordered_map(
    function: Callable[[Task], Result], tasks: Iterable[Task], processes: int
) -> Iterator[Result]:
    """Yield `function(task)` for every task, in order.

    Tasks are drawn as they are needed: what is under way is bounded by the number of processes,
    not by the number of tasks. With one process everything happens in this one.

    Args:
        function: A function at the top level of a module, with picklable arguments and results.
        tasks: Any iterable; it may be endless.
        processes: Number of worker processes.

    Raises:
        InputError: A worker died, as it does when memory runs out; or `function` raised it, as
            any other exception it raises.
    """
    if processes <= 1:
        yield from map(function, tasks)
        return
    remaining = iter(tasks)
    # A forked child would inherit threads and locks of whatever the caller has imported.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(processes, mp_context=context) as pool:
        under_way: deque[Future[list[Result]]] = deque()
        try:
            while True:
                while len(under_way) < BATCHES_A_PROCESS * processes:
                    batch = list(islice(remaining, TASKS_A_BATCH))
                    if not batch:
                        break
                    under_way.append(pool.submit(_batch, function, batch))
                if not under_way:
                    return
                yield from under_way.popleft().result()
        except BrokenProcessPool as error:
            raise InputError(
                f"One of {processes} worker processes died, most likely for want of memory. Give"
                " the job more memory or fewer threads, and run it again."
            ) from error
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def in_threads(
    function: Callable[[Task], Result], tasks: Iterable[Task], threads: int
) -> Iterator[Result]:
    """`map` over a pool of threads; at most two results a thread wait to be taken."""
    with ThreadPoolExecutor(threads) as pool:
        waiting = deque[Future[Result]]()
        for task in tasks:
            waiting.append(pool.submit(function, task))
            if len(waiting) > 2 * threads:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
