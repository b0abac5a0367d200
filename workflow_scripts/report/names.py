"""How methods, refinements, figures and numbers are written in reports; colours of methods and classes."""

import colorsys
from collections.abc import Mapping, Sequence
from itertools import chain
from typing import Any

from workflow_scripts.doors.method import METHODS
from workflow_scripts.report.catalogue import REFERENCE
from workflow_scripts.storage.masks import voc_palette

_LONGEST_ABBREVIATION = 5
_REFINEMENTS = {"crf": "CRF", "par": "PAR", "none": "no refinement"}
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
    ("activations", "refined_best_miou"): (
        "mIoU after {refinement} at the best threshold, %",
        1,
        1,
    ),
    ("activations", "refined_mean_miou"): (
        "mIoU after {refinement}, mean over thresholds, %",
        1,
        1,
    ),
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
# Okabe and Ito, "Color Universal Design", 2008.
ORANGE, SKY, GREEN, YELLOW = "#E69F00", "#56B4E9", "#009E73", "#F0E442"
BLUE, VERMILION, PURPLE, GREY = "#0072B2", "#D55E00", "#CC79A7", "#6B7280"
_METHODS = (VERMILION, BLUE)
_FURTHER = (GREEN, PURPLE, ORANGE, SKY, YELLOW)
# The colours of the first two methods come last, so that few classes do not look like methods.
_CLASSES = (SKY, YELLOW, GREEN, PURPLE, ORANGE, BLUE, VERMILION)

# A word that belongs to the one before it, and one that belongs to a name before it.
_LINK, _KIND = "on", "cam"


def method_name(method: str) -> str:
    """Return a method's name for readers: its title, and what tells a variant of it from others.

    "amn_no_balance" becomes "AMN, no balance", "amn_on_vit_cam" "AMN on ViT-CAM". What has no title,
    as the method of a plug-in, which reports do not load, has its first word in capitals where it is as short
    as abbreviations are: "lse_cam" becomes "LSE-CAM".
    """
    if method == REFERENCE:
        return "fully supervised reference"
    head, *rest = _titled(method.split("_"))
    if not rest:
        return head
    return f"{head}{'' if rest[0] == _LINK else ','} {' '.join(rest)}"


def _titled(words: list[str]) -> list[str]:
    """Words, with a title in the place of those that name a method."""
    known = METHODS.names()
    found: list[str] = []
    while words:
        lengths = range(len(words), 0, -1)
        length = next((one for one in lengths if "_".join(words[:one]) in known), 0)
        if name := "_".join(words[:length]):
            found.append(METHODS.get(name).title or _untitled(words[:length]))
        elif found and found[-1] != _LINK:
            found.append(words[0])
        else:
            length = 2 if words[1:2] == [_KIND] else 1
            found.append(_untitled(words[:length]))
        words = words[max(1, length) :]
    return found


def _untitled(words: Sequence[str]) -> str:
    head, *rest = words
    name = head.upper() if len(head) <= _LONGEST_ABBREVIATION else head
    if rest[:1] == [_KIND]:
        name, rest = f"{name}-{_KIND.upper()}", rest[1:]
    return " ".join([name, *rest])


def refinement_name(refinement: str) -> str:
    """Return a refinement's name for readers: "crf" becomes "CRF", "none" "no refinement"."""
    return _REFINEMENTS.get(refinement, refinement)


def refinement_of(summary: Mapping[str, Any]) -> str:
    """Return the name of what refines a run's sweeps, from its summary."""
    return refinement_name(summary.get("refinement", "crf"))


def compared_pair(methods: Sequence[str]) -> tuple[str, str] | None:
    """Return the baseline and the method held against it; None where there are no two.

    They are the first two of the run; the fully supervised reference is neither.
    """
    first, second, *_ = [*(method for method in methods if method != REFERENCE), "", ""]
    return (first, second) if second else None


def made_at(key: str) -> str:
    """Where pseudo-masks were thresholded, in words: "at 0.50", "at the auto threshold"."""
    return f"at {key}" if key[:1].isdigit() else f"at the {key} threshold"


def figure_name(
    section: str, figure: str, of_class: str = "", refinement: str = "CRF"
) -> tuple[str, float, int]:
    """Return a figure of the summary in words, the factor to show it with, and its decimals."""
    section = "activations" if section == "propagated" else section
    words, factor, decimals = _FIGURES.get((section, figure), (figure.replace("_", " "), 1, 3))
    return words.format(of_class=of_class, refinement=refinement), factor, decimals


def signed(value: float, decimals: int = 1) -> str:
    """Return a difference with its sign: "+1.2", "−0.3"; what rounds to zero has none."""
    text = f"{value:+.{decimals}f}"
    return text[1:] if float(text) == 0 else text.replace("-", "−")


def mean_std(figure: Mapping[str, Any], scale: float = 1) -> str:
    """Return a figure of the summary: "41.2 ± 0.6", without the deviation for one trial."""
    mean = f"{scale * figure['mean']:.1f}"
    return mean if figure["std"] is None else f"{mean} ± {scale * figure['std']:.1f}"


def colours_of(methods: Sequence[str]) -> dict[str, str]:
    """Return a colour for each method, by its place among those of the run; the reference is grey."""
    others = [method for method in methods if method != REFERENCE]
    further = (_FURTHER[i % len(_FURTHER)] for i in range(len(others)))
    return {REFERENCE: GREY} | dict(zip(others, chain(_METHODS, further), strict=False))


def voc_colours(classes: int) -> list[str]:
    """Return VOC's colours of background and classes, as "#rrggbb"."""
    return ["#" + bytes(colour).hex() for colour in voc_palette()[: classes + 1]]


def safe_colours(classes: int) -> list[str]:
    """Return colours of background and classes; beyond seven classes they repeat lighter, darker."""
    colours = ["#000000"]
    for number in range(classes):
        turn, base = divmod(number, len(_CLASSES))
        colours.append(_shaded(_CLASSES[base], turn))
    return colours


def _shaded(colour: str, turn: int) -> str:
    """Vary lightness: turn 0 as it is, 1 lighter, 2 darker, 3 lighter still …"""
    if turn == 0:
        return colour
    hue, light, saturation = colorsys.rgb_to_hls(
        *(int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5))
    )
    away = 1 - 0.62 ** ((turn + 1) // 2)
    light = light + (1 - light) * away if turn % 2 else light * (1 - away)
    red, green, blue = colorsys.hls_to_rgb(hue, light, saturation)
    return "#" + "".join(f"{round(255 * channel):02x}" for channel in (red, green, blue))
