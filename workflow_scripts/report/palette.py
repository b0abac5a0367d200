"""Colours of methods: a palette that colour-blind readers can tell apart."""

from collections.abc import Sequence

from workflow_scripts.report.catalogue import REFERENCE
from workflow_scripts.report.names import BASELINE, PROPOSED

# Okabe and Ito, "Color Universal Design", 2008.
ORANGE, SKY, GREEN, YELLOW = "#E69F00", "#56B4E9", "#009E73", "#F0E442"
BLUE, VERMILION, PURPLE, GREY = "#0072B2", "#D55E00", "#CC79A7", "#6B7280"
_FIXED = {BASELINE: VERMILION, PROPOSED: BLUE, REFERENCE: GREY}
_VARIANTS = (GREEN, PURPLE, ORANGE, SKY, YELLOW)


def colours_of(methods: Sequence[str]) -> dict[str, str]:
    """Return a colour for each method; those of baseline, AMN and reference never change."""
    others = [method for method in methods if method not in _FIXED]
    varied = {method: _VARIANTS[i % len(_VARIANTS)] for i, method in enumerate(others)}
    return {method: _FIXED.get(method, varied.get(method, GREY)) for method in methods}
