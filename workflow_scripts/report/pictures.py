"""Pictures inside a page: encoded, reduced, coloured."""

import base64
import io
from collections.abc import Sequence

import numpy as np
from PIL import Image

# Stops of Matplotlib's inferno: even in lightness, so that it reads the same for everyone.
HEAT_STOPS = (
    "#000004", "#1b0c41", "#4a0c6b", "#781c6d", "#a52c60",
    "#cf4446", "#ed6925", "#fb9b06", "#f7d13d", "#fcffa4",
)  # fmt: skip
_IGNORED = 210


def data_uri(kind: str, data: bytes) -> str:
    """Return bytes as an address that a page can hold: "data:image/png;base64,…"."""
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"


def photo_uri(image: np.ndarray, longest: int, quality: int = 80) -> str:
    """Return a photograph uint8[H, W, 3] as WebP, reduced to at most `longest` pixels a side."""
    picture = Image.fromarray(image)
    picture.thumbnail((longest, longest), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    picture.save(buffer, format="WEBP", quality=quality, method=4)
    return data_uri("image/webp", buffer.getvalue())


def planes_uri(planes: list[np.ndarray]) -> str:
    """Return planes uint8[H, W], one below another, as a grey PNG: what it holds is exact."""
    buffer = io.BytesIO()
    Image.fromarray(np.concatenate(planes)).save(buffer, format="PNG", optimize=True)
    return data_uri("image/png", buffer.getvalue())


def mask_uri(mask: np.ndarray, longest: int, colours: Sequence[str]) -> str:
    """Return labels uint8[H, W] as an indexed PNG, reduced without mixing labels.

    Args:
        mask: Labels; 255 becomes light grey.
        longest: Pixels of the longer side at most.
        colours: "#rrggbb" of background and classes.
    """
    palette = np.full((256, 3), _IGNORED, np.uint8)
    palette[: len(colours)] = [_channels(colour) for colour in colours]
    picture = Image.fromarray(mask)
    picture.thumbnail((longest, longest), Image.Resampling.NEAREST)
    picture.putpalette(palette.tobytes())
    buffer = io.BytesIO()
    picture.save(buffer, format="PNG", optimize=True)
    return data_uri("image/png", buffer.getvalue())


def _channels(colour: str) -> list[int]:
    return [int(colour[i : i + 2], 16) for i in (1, 3, 5)]


def heat(values: np.ndarray) -> np.ndarray:
    """Colour values 0…1 of any shape: uint8[..., 3]."""
    stops = np.array([_channels(stop) for stop in HEAT_STOPS])
    at = np.linspace(0, 1, len(stops))
    channels = [np.interp(values, at, stops[:, channel]) for channel in range(3)]
    return np.stack(channels, axis=-1).round().astype(np.uint8)


def heat_over(image: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Lay the colours of values 0…1 [H, W] over a photograph uint8[H, W, 3], denser where higher."""
    share = (0.35 + 0.5 * values)[..., None]
    return (image * (1 - share) + heat(values) * share).round().astype(np.uint8)
