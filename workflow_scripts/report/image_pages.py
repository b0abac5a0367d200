"""What the pages of images embed, the gallery and the threshold explorer: which images, and their pictures.

Images are chosen by rules that leave no room for picking. The gain of an image is its mean IoU with one
method minus that with another, each at the threshold that is best for the whole split. Images without a
defined IoU (nothing counts in their truth) have no gain.

In the explorer a browser shows the same masks as the sweep counts: each pixel's activation is stored as the
number of thresholds below it, so that `activation > threshold` is exact at every position of the slider.
"""

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from workflow_scripts.datasets.images import read_image
from workflow_scripts.datasets.index import ImageRecord
from workflow_scripts.evaluation.run_results import TRUTH, RunFolder
from workflow_scripts.evaluation.threshold_sweep import ThresholdSweep
from workflow_scripts.evaluation.truth import read_truth
from workflow_scripts.report.catalogue import REFERENCE
from workflow_scripts.report.html import data_uri
from workflow_scripts.report.names import method_name
from workflow_scripts.report.run_data import Curve
from workflow_scripts.storage.activations import ActivationReader
from workflow_scripts.storage.masks import MaskReader

# Stops of Matplotlib's inferno: even in lightness, so that it reads the same for everyone.
HEAT_STOPS = (
    "#000004", "#1b0c41", "#4a0c6b", "#781c6d", "#a52c60",
    "#cf4446", "#ed6925", "#fb9b06", "#f7d13d", "#fcffa4",
)  # fmt: skip
_IGNORED = 210
MOST_THRESHOLDS = 255
_PHOTO_SIDE = 640
Picture = dict[str, str]


class Choice(NamedTuple):
    """An image and why it is shown."""

    id: str
    group: str
    """ "best", "median" or "worst" gain, or "evenly spaced"."""
    gain: float | None
    """Points of IoU; None without ground truth."""


def image_iou(sweep: ThresholdSweep) -> dict[str, float]:
    """Return each image's mean IoU in percent at the split's best threshold; undefined ones absent."""
    images = sweep.images()
    at_best = 100 * images.iou[:, sweep.curve().best].astype(np.float64)
    return {i: float(v) for i, v in zip(images.ids, at_best, strict=True) if not np.isnan(v)}


def gains(first: ThresholdSweep, second: ThresholdSweep) -> dict[str, float]:
    """Return the gain of the second over the first method for every image, in points."""
    before, after = image_iou(first), image_iou(second)
    return {i: after[i] - before[i] for i in before if i in after}


def ranked(gain: dict[str, float]) -> list[str]:
    """Return the ids by falling gain; equal ones by id."""
    return sorted(gain, key=lambda image_id: (-gain[image_id], image_id))


def best_median_worst(gain: dict[str, float], number: int) -> list[Choice]:
    """Choose about a third each from the top, the middle and the bottom of the ranking by gain.

    Where the number cannot be divided, the best get one more, then the worst. No image comes twice.
    """
    ids = ranked(gain)
    number = min(number, len(ids))
    best, worst = -(-number // 3), (number + 1) // 3
    median = number - best - worst
    start = min(max((len(ids) - median) // 2, best), len(ids) - worst - median)
    parts = {
        "best": ids[:best],
        "median": ids[start : start + median],
        "worst": ids[len(ids) - worst :],
    }
    return [Choice(i, group, gain[i]) for group, chosen in parts.items() for i in chosen]


def evenly_spaced(ids: Sequence[str], number: int) -> list[str]:
    """Choose ids at equal distances, the first and the last one among them."""
    number = min(number, len(ids))
    positions = np.linspace(0, len(ids) - 1, number).round().astype(int)
    return [ids[position] for position in positions]


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


def slider_positions(thresholds: np.ndarray) -> np.ndarray:
    """Return the positions of the thresholds on the slider: all, or every n-th so that 8 bits do."""
    step = -(-len(thresholds) // MOST_THRESHOLDS)
    return np.arange(step // 2, len(thresholds), step)


def passed_thresholds(
    activation: np.ndarray, labels: Sequence[int], thresholds: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return for each pixel how many thresholds its winner exceeds, and the winner's class.

    Args:
        activation: float32[k, H, W].
        labels: The k channels' classes.
        thresholds: float32[T], ascending, at most 255.

    Returns:
        uint8[H, W] twice: 0…T and class numbers; zeros for an image without labels.
    """
    if not labels:
        return np.zeros(activation.shape[1:], np.uint8), np.zeros(activation.shape[1:], np.uint8)
    passed = np.searchsorted(thresholds, activation.max(axis=0), side="left")
    winner = np.asarray(labels, np.uint8)[activation.argmax(axis=0)]
    return passed.astype(np.uint8), winner


def explorer_image(
    record: ImageRecord,
    choice: Choice,
    activations: dict[str, np.ndarray],
    thresholds: np.ndarray,
    with_truth: bool,
) -> dict[str, Any]:
    """Return one image of the explorer.

    The planes are the truth (where there is one), then for each method the passed thresholds and the
    winner.
    """
    planes = [read_truth(record)] if with_truth else []
    for activation in activations.values():
        planes += passed_thresholds(activation, record.labels, thresholds)
    return {
        "id": record.id,
        "width": record.width,
        "height": record.height,
        "labels": record.labels,
        "group": choice.group,
        "gain": None if choice.gain is None else round(choice.gain, 2),
        "photo": photo_uri(read_image(record.path), _PHOTO_SIDE),
        "planes": planes_uri(planes),
    }


def curve_entry(plain: Curve, refined: Curve | None, positions: np.ndarray) -> dict[str, Any]:
    """Return a method's curves for the chart, percent; the best threshold and plateau are exact."""
    threshold, miou = float(plain.thresholds[plain.best]), float(plain.mean[plain.best])
    entry: dict[str, Any] = {
        "mean": _rounded(plain.mean[positions]),
        "spread": _rounded(plain.spread[positions]),
        "best": {"threshold": threshold, "miou": round(miou, 2)},
        "plateau": [[round(end, 6) for end in ends] for ends in plain.plateau_ranges],
        "plateau_share": round(float(plain.plateau.mean()), 4),
    }
    if refined is not None:
        entry["refined"] = {
            "thresholds": refined.thresholds.tolist(),
            "mean": _rounded(refined.mean),
        }
    return entry


def _rounded(values: np.ndarray) -> list[float]:
    return [round(float(value), 3) for value in values]


@dataclass(frozen=True)
class MethodFiles:
    """The shards of one method and split, found when they are first asked for."""

    folder: RunFolder
    trial: int
    method: str
    source: str
    split: str

    def _shards(self, place: str, suffix: str, by_split: Mapping[str, Sequence[str]]) -> list[Path]:
        """Those that exist: the reference has no activations, for one."""
        folder = self.folder.path / str(self.trial) / self.method / place
        paths = [folder / (shard + suffix) for shard in by_split.get(self.split, ())]
        return [path for path in paths if path.exists()]

    @cached_property
    def activations(self) -> dict[str, ActivationReader]:
        """Reader of each image's activation."""
        readers = map(
            ActivationReader, self._shards("activations", ".safetensors", self.folder.shards)
        )
        return {image_id: reader for reader in readers for image_id in reader.ids}

    @cached_property
    def masks(self) -> dict[str, dict[str, MaskReader]]:
        """Readers of seeds, pseudo-masks and predictions, by image."""
        source = TRUTH if self.method == REFERENCE else self.source
        places = {
            "seeds": ("seeds", self.folder.shards),
            "pseudo-mask": (f"{source}/pseudo_masks", self.folder.pseudo_mask_shards),
            "prediction": (f"{source}/segmentation/predictions", self.folder.segmentation_shards),
        }
        return {
            kind: {
                i: reader
                for reader in map(MaskReader, self._shards(place, ".zip", shards))
                for i in reader.ids
            }
            for kind, (place, shards) in places.items()
        }


def method_row(
    files: MethodFiles, record: ImageRecord, image: np.ndarray, side: int, colours: Sequence[str]
) -> dict[str, Any] | None:
    """Return a method's pictures of an image; None where it has none."""
    name = method_name(files.method)
    pictures: list[Picture] = []
    if record.id in files.activations:
        reader = files.activations[record.id]
        activation = reader.read_full(record.id, record.height, record.width)
        strongest = activation.max(axis=0, initial=0.0)
        pictures.append(
            {"title": "activation", "uri": photo_uri(heat_over(image, strongest), side, 70)}
        )
    for kind, readers in files.masks.items():
        if record.id in readers:
            mask = readers[record.id].read(record.id)
            pictures.append({"title": kind, "uri": mask_uri(mask, side, colours)})
    return {"name": name, "pictures": pictures} if pictures else None


def gallery_image(
    record: ImageRecord,
    methods: Sequence[MethodFiles],
    classes: Sequence[str],
    side: int,
    colours: Sequence[str],
) -> dict[str, Any]:
    """Return one image of the gallery; its ground truth where it has some."""
    image = read_image(record.path)
    first: list[Picture] = [{"title": "photo", "uri": photo_uri(image, side)}]
    if record.mask is not None:
        first.append({"title": "ground truth", "uri": mask_uri(read_truth(record), side, colours)})
    rows = [method_row(files, record, image, side, colours) for files in methods]
    return {
        "id": record.id,
        "split": record.split,
        "labels": [classes[label - 1] for label in record.labels],
        "rows": [{"name": "", "pictures": first}, *filter(None, rows)],
    }
