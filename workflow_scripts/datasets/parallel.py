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
# Bytes of the images that wait for their turn: large photographs do not fill the memory.
MOST_WAITING = 2**28


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
    function: Callable[[Task], Result],
    tasks: Iterable[Task],
    threads: int,
    weigh: Callable[[Task], int] | None = None,
) -> Iterator[Result]:
    """`map` over a pool of threads, which works ahead of whoever takes the results.

    At most two results a thread wait to be taken, and, beside one, no more than `MOST_WAITING` bytes.

    Args:
        function: Called in the threads; what it raises is raised here, in its turn.
        tasks: Drawn in the caller's thread.
        threads: Number of threads.
        weigh: Bytes that a task holds until its result is taken; 0 if None.
    """
    with ThreadPoolExecutor(threads) as pool:
        waiting = deque[tuple[Future[Result], int]]()
        held = 0
        try:
            for task in tasks:
                weight = weigh(task) if weigh else 0
                while waiting and held + weight > MOST_WAITING:
                    held -= waiting[0][1]
                    yield waiting.popleft()[0].result()
                held += weight
                waiting.append((pool.submit(function, task), weight))
                if len(waiting) > 2 * threads:
                    held -= waiting[0][1]
                    yield waiting.popleft()[0].result()
            while waiting:
                yield waiting.popleft()[0].result()
        finally:
            pool.shutdown(wait=True, cancel_futures=True)
