"""Progress bars that stay readable in a terminal, in a log file and in a CI job."""

import sys
from collections.abc import Iterable
from typing import Any, TextIO

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
