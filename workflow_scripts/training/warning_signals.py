"""The signals by which a scheduler says that a job must end soon."""

import os
import signal
import threading
from types import FrameType

EXIT_CODE_BASE = 128


class WarningSignals:
    """Remembers SIGTERM and SIGUSR1 (Slurm's warning before the time limit) until the step is done."""

    def __init__(self) -> None:
        self.number = 0
        for number in (signal.SIGTERM, signal.SIGUSR1):
            signal.signal(number, self._remember)

    def _remember(self, number: int, frame: FrameType | None) -> None:
        self.number = number

    @property
    def received(self) -> bool:
        """Whether the process was asked to stop."""
        return self.number != 0

    @property
    def exit_code(self) -> int:
        """Exit code by which shells report an end by that signal."""
        return EXIT_CODE_BASE + self.number


def only_parent_ends_worker(worker: int) -> None:
    """Start of a loader process: its parent alone may end it.

    Schedulers send their signals to all processes of a job. A loader that ended at once would take the
    training down with it, before the step is done and the state saved.
    """
    signal.signal(signal.SIGUSR1, signal.SIG_IGN)
    if not hasattr(signal, "sigwaitinfo"):
        return
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})

    def wait_for_parent() -> None:
        while signal.sigwaitinfo({signal.SIGTERM}).si_pid != os.getppid():
            continue
        os._exit(0)

    threading.Thread(target=wait_for_parent, daemon=True, name="end").start()
