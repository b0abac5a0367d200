"""How methods are called in the report."""

from collections.abc import Sequence

from workflow_scripts.report.catalogue import REFERENCE

BASELINE = "cam"
PROPOSED = "amn"
_NAMES = {BASELINE: "CAM", PROPOSED: "AMN", REFERENCE: "fully supervised reference"}


def method_name(method: str) -> str:
    """Return the name of a method for readers: "amn_no_balance" becomes "AMN, no balance"."""
    if method in _NAMES:
        return _NAMES[method]
    head, separator, rest = method.partition("_")
    words = rest.replace("_", " ")
    return f"{_NAMES.get(head, head)}{', ' if separator else ''}{words}"


def compared_pair(methods: Sequence[str]) -> tuple[str, str] | None:
    """Return the baseline and the method held against it; None where there are no two.

    The baseline is `cam` or else the first method, the other `amn` or else the next one; the fully
    supervised reference is neither.
    """
    candidates = [method for method in methods if method != REFERENCE]
    if len(candidates) < 2:
        return None
    baseline = BASELINE if BASELINE in candidates else candidates[0]
    others = [method for method in candidates if method != baseline]
    return baseline, PROPOSED if PROPOSED in others else others[0]
