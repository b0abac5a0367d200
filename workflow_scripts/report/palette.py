"""Colours that colour-blind readers can tell apart: of methods, and of classes in masks."""

import colorsys
from collections.abc import Sequence
from itertools import chain

from workflow_scripts.report.catalogue import REFERENCE
from workflow_scripts.storage.masks import voc_palette

# Okabe and Ito, "Color Universal Design", 2008.
ORANGE, SKY, GREEN, YELLOW = "#E69F00", "#56B4E9", "#009E73", "#F0E442"
BLUE, VERMILION, PURPLE, GREY = "#0072B2", "#D55E00", "#CC79A7", "#6B7280"
_METHODS = (VERMILION, BLUE)
_FURTHER = (GREEN, PURPLE, ORANGE, SKY, YELLOW)
# The colours of the first two methods come last, so that few classes do not look like methods.
_CLASSES = (SKY, YELLOW, GREEN, PURPLE, ORANGE, BLUE, VERMILION)


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
