"""How numbers are written in the report."""

from collections.abc import Mapping
from typing import Any


def signed(value: float, decimals: int = 1) -> str:
    """Return a difference with its sign: "+1.2", "−0.3"; what rounds to zero has none."""
    text = f"{value:+.{decimals}f}"
    return text[1:] if float(text) == 0 else text.replace("-", "−")


def mean_std(figure: Mapping[str, Any], scale: float = 1) -> str:
    """Return a figure of the summary: "41.2 ± 0.6", without the deviation for one trial."""
    mean = f"{scale * figure['mean']:.1f}"
    return mean if figure["std"] is None else f"{mean} ± {scale * figure['std']:.1f}"
