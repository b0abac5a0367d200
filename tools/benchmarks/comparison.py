"""Two ways of doing the same work, measured in turn."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from statistics import median
from typing import Any, TypeVar

Result = TypeVar("Result")
Pair = tuple[float, float]


@dataclass(frozen=True)
class Comparison:
    """What a benchmark found.

    Attributes:
        pairs: (reference, ours), measured one right after the other.
        unit: What the two numbers are.
        agreement: How far the two results agree; None where there is nothing to compare.
        agreement_of: What the agreement is.
        note: What a reader should know of how it was measured.
        growth: The ratio is ours / reference, not reference / ours.
    """

    pairs: list[Pair]
    unit: str
    agreement: float | None = None
    agreement_of: str = ""
    note: str = ""
    growth: bool = False

    @property
    def ratios(self) -> list[float]:
        """One ratio a pair."""
        return [
            ours / reference if self.growth else reference / ours for reference, ours in self.pairs
        ]

    def figures(self) -> dict[str, Any]:
        """The entry of bench.json: medians over the pairs, and the range of their ratios."""
        reference, ours = zip(*self.pairs, strict=True)
        return {
            "reference": median(reference),
            "ours": median(ours),
            "ratio": median(self.ratios),
            "ratio_min": min(self.ratios),
            "ratio_max": max(self.ratios),
            "agreement": self.agreement,
            "agreement_of": self.agreement_of,
            "unit": self.unit,
            "n": len(self.pairs),
            "note": self.note,
        }


def timed(work: Callable[[], Result]) -> tuple[float, Result]:
    """Seconds of wall time that `work` takes, and what it returns."""
    start = time.perf_counter()
    result = work()
    return time.perf_counter() - start, result


def timed_pair(
    reference: Callable[[], Result], ours: Callable[[], Result]
) -> tuple[Pair, tuple[Result, Result]]:
    """Seconds of both, and what both return."""
    reference_seconds, expected = timed(reference)
    our_seconds, found = timed(ours)
    return (reference_seconds, our_seconds), (expected, found)
