"""Composing scenes of photographed cut-outs and backgrounds, with exact label masks.

What is pasted into a photograph gives itself away by hard edges, other light, other sharpness and
other noise, and a method that refines masks along edges would find objects for free. Therefore borders
are softened, objects take over part of the colours behind them, and light, blur, noise and compression
are those of the whole scene.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.random import Generator
from PIL import Image
from pydantic import Field, model_validator

from workflow_scripts.settings.base import Settings
from workflow_scripts.storage.masks import IGNORE

# What is labelled must be there to be seen: least area, as a share of the scene and of the object.
LEAST_SHARE_OF_SCENE = 0.01
LEAST_SHARE_OF_OBJECT = 0.6
_LEAST_INSIDE = 0.6
# Small cut-outs are enlarged no further than this, at the default scene of 160 pixels.
_MAX_ENLARGEMENT = 1.6 / 160
_LONGEST_SIDE = 0.95
_ATTEMPTS = 12
_RIM = (0.2, 0.8)


class SceneSettings(Settings):
    """How scenes are composed."""

    image_size: int = Field(
        160, ge=64, le=512, description="Width and height of a scene in pixels."
    )
    max_objects: int = Field(3, ge=1, le=8, description="Largest number of objects in a scene.")
    empty_share: float = Field(
        0.05, ge=0, le=0.5, description="Share of scenes without any object."
    )
    mixed_share: float = Field(
        0.4,
        ge=0,
        le=1,
        description="Share of scenes whose background consists of two photographs, so that strong"
        " edges lie not only around objects.",
    )
    min_object_size: float = Field(
        0.25,
        ge=0.1,
        le=1,
        description="Smallest object: square root of its area, as a share of the scene's width.",
    )
    max_object_size: float = Field(
        0.55,
        ge=0.1,
        le=1,
        description="Largest object: square root of its area, as a share of the scene's width.",
    )
    max_rotation: float = Field(
        25, ge=0, le=180, description="Largest rotation of an object in degrees, either way."
    )
    cut_share: float = Field(
        0.2, ge=0, le=1, description="Share of objects that may reach over the border of the scene."
    )
    colour_matching: float = Field(
        0.6,
        ge=0,
        le=1,
        description="How far at most an object takes over brightness, contrast and tint of the"
        " background behind it: 0 not at all, 1 entirely.",
    )

    @model_validator(mode="after")
    def _sizes_in_order(self) -> Self:
        if self.min_object_size > self.max_object_size:
            raise ValueError("min_object_size must not exceed max_object_size")
        return self


@dataclass(frozen=True, slots=True)
class Materials:
    """What the scenes of one split are made of.

    Attributes:
        cutouts: RGBA images by class number, from 1.
        backgrounds: RGB images.
    """

    cutouts: Mapping[int, Sequence[Image.Image]]
    backgrounds: Sequence[Image.Image]


@dataclass(frozen=True, slots=True)
class _Layer:
    """An object in its place: colours float32[S, S, 3], alpha float32[S, S], area before cropping."""

    label: int
    colour: np.ndarray
    alpha: np.ndarray
    area: float


def compose_scene(
    materials: Materials, settings: SceneSettings, rng: Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Return a scene uint8[S, S, 3] and its labels uint8[S, S] (0 background, 255 border).

    Objects of which too little is visible are placed anew and at last left out, so that every
    class in the mask can be seen.
    """
    scene = _background(materials, settings, rng)
    layers = _place_objects(materials, settings, rng)
    for layer in layers:
        strength = rng.uniform(0, settings.colour_matching)
        colour = _match_colours(layer, scene, strength, rng)
        alpha = layer.alpha[..., None]
        scene = alpha * colour + (1 - alpha) * scene
    return _photograph(scene, rng), _labels(layers, settings.image_size)


def _background(materials: Materials, settings: SceneSettings, rng: Generator) -> np.ndarray:
    """One background, or two that meet along a curve, as float32[S, S, 3] in 0…255."""
    scene = _background_part(materials, settings.image_size, rng)
    if rng.random() >= settings.mixed_share:
        return scene
    other = _background_part(materials, settings.image_size, rng)
    side = _curved_side(settings.image_size, rng)[..., None]
    return side * other + (1 - side) * scene


def _background_part(materials: Materials, size: int, rng: Generator) -> np.ndarray:
    """Random part of a random background as float32[size, size, 3] in 0…255."""
    photo = materials.backgrounds[int(rng.integers(len(materials.backgrounds)))]
    side = rng.uniform(0.55, 1) * min(photo.size)
    x, y = rng.uniform(0, photo.width - side), rng.uniform(0, photo.height - side)
    part = photo.resize((size, size), Image.Resampling.BICUBIC, (x, y, x + side, y + side))
    pixels = np.asarray(part, dtype=np.float32)
    if rng.random() < 0.5:
        pixels = pixels[:, ::-1]
    return _jitter(pixels, rng, contrast=0.2, tint=0.08)


def _curved_side(size: int, rng: Generator) -> np.ndarray:
    """One side of a random wavy line, float32[size, size]: 1 there, 0 beyond, soft between."""
    axis = np.linspace(-1, 1, size)
    angle = rng.uniform(0, 2 * np.pi)
    along = np.cos(angle) * axis[:, None] + np.sin(angle) * axis[None, :]
    across = -np.sin(angle) * axis[:, None] + np.cos(angle) * axis[None, :]
    wave = rng.uniform(0, 0.25) * np.sin(rng.uniform(1, 5) * along + rng.uniform(0, 2 * np.pi))
    distance = (across + wave + rng.uniform(-0.5, 0.5)) * size / 2
    return np.clip(distance / rng.uniform(1, 3) + 0.5, 0, 1).astype(np.float32)


def _jitter(pixels: np.ndarray, rng: Generator, contrast: float, tint: float) -> np.ndarray:
    """Vary contrast, brightness and tint of colours float32[…, 3] at random."""
    mean = pixels.reshape(-1, 3).mean(axis=0)
    gain = 1 + rng.uniform(-contrast, contrast)
    shift = rng.uniform(-25, 25)
    colour = 1 + rng.uniform(-tint, tint, 3)
    return (((pixels - mean) * gain + mean + shift) * colour).astype(np.float32)


def _place_objects(materials: Materials, settings: SceneSettings, rng: Generator) -> list[_Layer]:
    """Choose, transform and place the objects of a scene, lowest first."""
    if rng.random() < settings.empty_share:
        return []
    layers: list[_Layer] = []
    for _ in range(rng.integers(1, settings.max_objects + 1)):
        label = int(rng.integers(1, len(materials.cutouts) + 1))
        cutout = materials.cutouts[label][int(rng.integers(len(materials.cutouts[label])))]
        for _ in range(_ATTEMPTS):
            candidate = _place(label, cutout, settings, rng)
            if _all_visible([*layers, candidate], settings.image_size):
                layers.append(candidate)
                break
    return layers


def _place(label: int, cutout: Image.Image, settings: SceneSettings, rng: Generator) -> _Layer:
    """Mirror, scale, rotate and place one cut-out at random, and soften its border."""
    size = settings.image_size
    if rng.random() < 0.5:
        cutout = cutout.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    angle = rng.uniform(-settings.max_rotation, settings.max_rotation)
    wanted = rng.uniform(settings.min_object_size, settings.max_object_size) * size
    scale = min(
        wanted / np.sqrt(_area(cutout)),
        _LONGEST_SIDE * size / max(cutout.size),
        _MAX_ENLARGEMENT * size,
    )
    cutout = cutout.resize(
        (max(2, round(cutout.width * scale)), max(2, round(cutout.height * scale))),
        Image.Resampling.LANCZOS,
    ).rotate(angle, Image.Resampling.BICUBIC, expand=True)
    reach = 1 - _LEAST_INSIDE if rng.random() < settings.cut_share else 0.0
    x = _offset(cutout.width, size, reach, rng)
    y = _offset(cutout.height, size, reach, rng)
    canvas = Image.new("RGBA", (size, size))
    canvas.paste(cutout, (x, y))
    pixels = np.asarray(canvas, dtype=np.float32)
    colour, alpha = _soften(pixels[..., :3], pixels[..., 3] / 255, rng)
    return _Layer(label, colour, alpha, _area(cutout))


def _area(cutout: Image.Image) -> float:
    """Pixels that a cut-out covers."""
    return float(np.asarray(cutout.getchannel("A"), dtype=np.float32).sum() / 255)


def _offset(length: int, size: int, reach: float, rng: Generator) -> int:
    """Position of an object of this length, at most the share `reach` of it outside the scene."""
    low, high = -reach * length, size - length + reach * length
    return round(rng.uniform(min(low, high), max(low, high)))


def _soften(colour: np.ndarray, alpha: np.ndarray, rng: Generator) -> tuple[np.ndarray, np.ndarray]:
    """Blur the border of an object and move it slightly inwards; spread its colours outwards.

    The colours beyond the border are those of the nearest pixel of the object, so that the blurred
    border mixes object and background, never what lies under the transparent part.
    """
    from scipy import ndimage

    solid = alpha > 0.9
    if solid.any():
        nearest = ndimage.distance_transform_edt(
            ~solid, return_distances=False, return_indices=True
        )
        colour = colour[tuple(nearest)]
    blurred = ndimage.gaussian_filter(alpha, rng.uniform(0.5, 1.0), mode="nearest")
    return colour, np.clip((blurred - 0.12) / 0.82, 0, 1)


def _match_colours(layer: _Layer, scene: np.ndarray, strength: float, rng: Generator) -> np.ndarray:
    """Move mean and spread of an object's colours part of the way to those of what it covers."""
    inside = layer.alpha > 0.5
    own, behind = layer.colour[inside], scene[inside]
    mean, spread = own.mean(axis=0), own.std() + 1
    target = mean + strength * (behind.mean(axis=0) - mean)
    gain = (behind.std() + 1) / spread
    contrast = np.clip(gain, 0.7, 1.4) ** strength
    matched = (layer.colour - mean) * contrast + target
    return _jitter_brightness(matched.astype(np.float32), rng)


def _jitter_brightness(colour: np.ndarray, rng: Generator) -> np.ndarray:
    return colour * np.float32(1 + rng.uniform(-0.12, 0.12))


def _photograph(scene: np.ndarray, rng: Generator) -> np.ndarray:
    """Give the whole scene one light, one sharpness and one sensor noise; return uint8."""
    from scipy import ndimage

    size = scene.shape[0]
    axis = np.linspace(-1, 1, size, dtype=np.float32)
    slope = rng.uniform(-0.18, 0.18, 2)
    light = 1 + slope[0] * axis[:, None] + slope[1] * axis[None, :]
    scene = scene * light[..., None].astype(np.float32)
    scene = ndimage.gaussian_filter(scene, (sigma := rng.uniform(0.2, 0.8), sigma, 0))
    grain = rng.normal(0, 1, (size, size, 1)) + 0.5 * rng.normal(0, 1, scene.shape)
    scene = scene + rng.uniform(1, 5) * grain
    return np.clip(np.rint(scene), 0, 255).astype(np.uint8)


def _owners(layers: Sequence[_Layer], size: int) -> np.ndarray:
    """Number of the layer (from 1) that shows at each pixel, 0 background, int[S, S]."""
    owners = np.zeros((size, size), dtype=np.int64)
    for number, layer in enumerate(layers, start=1):
        owners[layer.alpha >= 0.5] = number
    return owners


def _all_visible(layers: Sequence[_Layer], size: int) -> bool:
    visible = np.bincount(_owners(layers, size).ravel(), minlength=len(layers) + 1)[1:]
    areas = np.array([layer.area for layer in layers])
    enough = np.maximum(LEAST_SHARE_OF_SCENE * size * size, LEAST_SHARE_OF_OBJECT * areas)
    return bool((visible >= enough).all())


def _labels(layers: Sequence[_Layer], size: int) -> np.ndarray:
    """Class numbers uint8[S, S]; the uncertain rim of each object is ignored, as in VOC."""
    labels = np.zeros((size, size), dtype=np.uint8)
    for layer in layers:
        labels[layer.alpha >= 0.5] = layer.label
        labels[(layer.alpha > _RIM[0]) & (layer.alpha < _RIM[1])] = IGNORE
    return labels
