"""Progress bars that stay readable in a terminal, in a log file and in a CI job."""

import sys
from collections.abc import Iterable
from types import TracebackType
from typing import Any, Self, TextIO

from tqdm import tqdm

SECONDS_BETWEEN_LINES = 10.0


class _Lines:
    """A stream for places that are no terminal: each redraw of the bar becomes a line."""

    def __init__(self, stream: TextIO) -> None:
        self.stream = stream

    def write(self, text: str) -> None:
        text = text.strip("\r\n ")
        if text:
            self.stream.write(text + "\n")

    def flush(self) -> None:
        self.stream.flush()


def progress(
    iterable: Iterable[Any] | None = None,
    *,
    total: int | None = None,
    description: str,
    unit: str = "img",
    initial: int = 0,
) -> Any:
    """A tqdm bar with rate and time left; one line each ten seconds where there is no terminal."""
    terminal = sys.stderr.isatty()
    return tqdm(
        iterable,
        total=total,
        desc=description,
        unit=unit,
        initial=initial,
        mininterval=0.2 if terminal else SECONDS_BETWEEN_LINES,
        maxinterval=SECONDS_BETWEEN_LINES,
        file=sys.stderr if terminal else _Lines(sys.stderr),
        ascii=None if terminal else " =",
        dynamic_ncols=terminal,
        ncols=None if terminal else 100,
        leave=True,
    )


class TaskBars:
    """One progress bar for each task of a piece of work, one after another; a context manager."""

    def __init__(self) -> None:
        self._task = ""
        self._bar: Any = None

    def __call__(self, task: str, done: int, total: int | None, unit: str) -> None:
        """Show how much of a task is done; see `Progress` in `doors/dataset.py`."""
        if task != self._task:
            self.close()
            self._task = task
            self._bar = progress(total=total, description=task, unit=unit, initial=done)
            self._bar.unit_scale = unit == "B"
        # A download that starts anew goes backwards.
        self._bar.update(done - self._bar.n)

    def close(self) -> None:
        """End the bar that is shown."""
        if self._bar is not None:
            self._bar.close()
            self._bar = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()
