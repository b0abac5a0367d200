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


def made_at(key: str) -> str:
    """Where pseudo-masks were thresholded, in words: "at 0.50", "at the auto threshold"."""
    return f"at {key}" if key[:1].isdigit() else f"at the {key} threshold"


_FIGURES: dict[tuple[str, str], tuple[str, float, int]] = {
    ("activations", "best_miou"): ("mIoU at the best threshold, %", 1, 1),
    ("activations", "best_threshold"): ("best threshold (an oracle's)", 1, 3),
    ("activations", "mean_miou"): ("mIoU, mean over all thresholds, %", 1, 1),
    ("activations", "plateau"): ("plateau: thresholds within 5 % of the best, %", 100, 1),
    ("activations", "image_miou_global"): ("mean IoU of an image at the best threshold, %", 1, 1),
    ("activations", "image_miou_oracle"): ("mean IoU of an image at its own best one, %", 1, 1),
    ("activations", "foreground_cv"): ("foreground imbalance (coefficient of variation)", 1, 3),
    ("activations", "gap"): ("gap of mean activation, foreground − background", 1, 3),
    ("activations", "regret"): ("regret: best mIoU − mIoU at the threshold used, points", 1, 1),
    ("activations", "refined_best_miou"): ("mIoU after CRF at the best threshold, %", 1, 1),
    ("activations", "refined_mean_miou"): ("mIoU after CRF, mean over thresholds, %", 1, 1),
    ("seeds", "background"): ("confident background, % of pixels", 100, 1),
    ("seeds", "foreground"): ("confident foreground, % of pixels", 100, 1),
    ("seeds", "ignored"): ("ignored, % of pixels", 100, 1),
    ("seeds", "miou_confident"): ("mIoU where confident, %", 1, 1),
    ("pseudo_masks", "miou"): ("mIoU, %", 1, 1),
    ("pseudo_masks", "threshold"): ("threshold", 1, 3),
    ("segmentation", "miou"): ("mIoU, %", 1, 1),
    ("segmentation", "per_class"): ("IoU of {of_class}, %", 1, 1),
}
SECTIONS = {
    "activations": "Activations",
    "propagated": "Activations after boundary refinement",
    "seeds": "Seeds",
    "pseudo_masks": "Pseudo-masks",
    "segmentation": "Segmentation network",
}


def figure_name(section: str, figure: str, of_class: str = "") -> tuple[str, float, int]:
    """Return a figure of the summary in words, the factor to show it with, and its decimals."""
    section = "activations" if section == "propagated" else section
    words, factor, decimals = _FIGURES.get((section, figure), (figure.replace("_", " "), 1, 3))
    return words.format(of_class=of_class), factor, decimals
