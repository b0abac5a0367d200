"""The result of a check."""

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass


@dataclass(frozen=True)
class Check:
    """What was looked at, whether it is as it should be, and the figures.

    Attributes:
        name: What was looked at.
        passed: None where there was nothing to look at.
        said: The figures beside what they should be, or why there was nothing.
        seconds: How long it took.
    """

    name: str
    passed: bool | None
    said: str
    seconds: float = 0.0


def carried_out(checks: Iterable[Callable[[], Iterable[Check]]]) -> Iterator[Check]:
    """Carry out checks, one after another; what one raises is its failure, and the next is carried out."""
    for several in checks:
        start = time.monotonic()
        try:
            for check in several():
                yield Check(check.name, check.passed, check.said, time.monotonic() - start)
                start = time.monotonic()
        except Exception as error:  # of any kind: a device can fail in any way
            name = getattr(several, "__name__", None) or several.func.__name__  # type: ignore[attr-defined]
            reason = " ".join(str(error).split())[:400]
            seconds = time.monotonic() - start
            yield Check(name, False, f"{type(error).__name__}: {reason}", seconds)
