"""COCO's run lengths: pixels outside and inside in turn, column by column, as a list or as text."""

from typing import Any

import numpy as np


def runs_of(counts: Any, pixels: int) -> list[int]:
    """Lengths of the runs, compressed text or a list.

    Raises:
        ValueError: They are no runs, or do not fill the image.
    """
    runs = _decompressed(counts) if isinstance(counts, str) else counts
    if not isinstance(runs, list) or any(
        isinstance(run, bool) or not isinstance(run, int) or run < 0 for run in runs
    ):
        raise ValueError("`counts` are no lengths of runs")
    if sum(runs) != pixels:
        raise ValueError(f"the runs have {sum(runs)} pixels, the image {pixels}")
    return runs


def region_of(runs: list[int], height: int, width: int) -> np.ndarray:
    """The region bool [H, W] of runs, the first of which lies outside."""
    inside = np.arange(len(runs)) % 2 == 1
    return np.repeat(inside, runs).reshape(width, height).T


def _decompressed(text: str) -> list[int]:
    """COCO's code for runs: 5 bits a character, differences from the run before the last one."""
    runs: list[int] = []
    value = shift = 0
    for character in text:
        code = ord(character) - 48
        if not 0 <= code < 64:
            raise ValueError(f"{character!r} is no character of compressed runs")
        value |= (code & 31) << shift
        shift += 5
        if code & 32:
            continue
        if code & 16:
            value -= 1 << shift
        runs.append(value + (runs[-2] if len(runs) > 2 else 0))
        value = shift = 0
    if shift:
        raise ValueError("the compressed runs are cut off")
    return runs
