"""Colours of classes in masks: PASCAL VOC's, or ones that colour-blind readers can tell apart."""

import colorsys

from workflow_scripts.report.palette import BLUE, GREEN, ORANGE, PURPLE, SKY, VERMILION, YELLOW
from workflow_scripts.storage.masks import voc_palette

# The colours of CAM and AMN come last, so that few classes do not look like methods.
_SAFE = (SKY, YELLOW, GREEN, PURPLE, ORANGE, BLUE, VERMILION)


def voc_colours(classes: int) -> list[str]:
    """Return VOC's colours of background and classes, as "#rrggbb"."""
    return ["#" + bytes(colour).hex() for colour in voc_palette()[: classes + 1]]


def safe_colours(classes: int) -> list[str]:
    """Return colours of background and classes; beyond seven classes they repeat lighter, darker."""
    colours = ["#000000"]
    for number in range(classes):
        turn, base = divmod(number, len(_SAFE))
        colours.append(_shaded(_SAFE[base], turn))
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
