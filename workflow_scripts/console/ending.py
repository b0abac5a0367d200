"""How a stage answers the signals by which schedulers end a job."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

EXIT_CODE_BASE = 128


def _leave(number: int, frame: FrameType | None) -> None:
    raise SystemExit(EXIT_CODE_BASE + number)


@contextmanager
def ending_cleanly() -> Iterator[None]:
    """SIGTERM unwinds the stage, so that locks and half-written files go; SIGUSR1 does nothing.

    SIGUSR1 is Slurm's warning before the time limit: a stage that has nothing to save had better go on,
    it may be done in time. Training puts its own answers in place of both.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    kept = {
        signal.SIGTERM: signal.signal(signal.SIGTERM, _leave),
        signal.SIGUSR1: signal.signal(signal.SIGUSR1, signal.SIG_IGN),
    }
    try:
        yield
    finally:
        for number, handler in kept.items():
            signal.signal(number, handler)
