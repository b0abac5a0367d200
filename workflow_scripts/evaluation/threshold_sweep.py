"""Every background threshold in one pass over the images.

A pixel takes its winner class, the one of largest activation among the image's labels, if that
activation exceeds the threshold, else background. Counting pixels by true class, winner class and
bin of the winner's activation, the bins bordered by the thresholds, gives by cumulative sums the
exact confusion matrix at every threshold. The counts do not grow with the number of images; each
image adds one row of figures (about half a kilobyte for 100 thresholds).

What a refinement (dense CRF, PAR) makes of the masks cannot be counted so: a `RefinedSweep` compares the
refined masks of a coarse grid of thresholds with the truth, one by one. Both are kept in one file a shard
(safetensors).
"""

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from workflow_scripts.errors import InputError
from workflow_scripts.evaluation.confusion import Confusion, iou_of_counts, mean_of_present
from workflow_scripts.evaluation.sweep_kernel import first_bins, histogram_of_image
from workflow_scripts.storage.atomic import atomic_path
from workflow_scripts.storage.masks import IGNORE

PLATEAU = 0.95
# What refines where nobody says.
CRF = "crf"


@dataclass(frozen=True)
class ThresholdCurve:
    """Confusion counts int64[T, C+1, C+1] at T thresholds and what follows from them.

    All shares and IoUs are 0…1. Means over classes include the background and leave out classes
    that occur in neither truth nor prediction (for precision: never predicted; for recall: not in
    truth).
    """

    thresholds: np.ndarray
    confusions: np.ndarray
    iou: np.ndarray = field(init=False)
    """float64[T, C+1], NaN where a class does not occur."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "iou", np.array([c.iou("skip") for c in self._matrices()]))

    def _matrices(self) -> Iterator[Confusion]:
        return map(self.at, range(len(self.thresholds)))

    def at(self, position: int) -> Confusion:
        """Return the confusion matrix at one threshold."""
        return Confusion(np.pad(self.confusions[position], ((0, 0), (0, 1))))

    @property
    def miou(self) -> np.ndarray:
        """Mean IoU at each threshold, float64[T]."""
        return mean_of_present(self.iou)

    @property
    def precision(self) -> np.ndarray:
        """Mean precision over classes at each threshold, float64[T]."""
        return np.array([mean_of_present(c.precision("skip")) for c in self._matrices()])

    @property
    def recall(self) -> np.ndarray:
        """Mean recall over classes at each threshold, float64[T]."""
        return np.array([mean_of_present(c.recall("skip")) for c in self._matrices()])

    @property
    def best(self) -> int:
        """Position of the largest mean IoU, the first one among equals."""
        return int(np.argmax(self.miou))

    @property
    def plateau(self) -> float:
        """Share of the thresholds whose mean IoU is at least 95 % of the best."""
        return float((self.miou >= PLATEAU * self.miou.max()).mean())

    def miou_at(self, threshold: float) -> float:
        """Return the mean IoU at any threshold, interpolated linearly between the curve's."""
        return float(np.interp(threshold, self.thresholds, self.miou))


def even_thresholds(step: float) -> np.ndarray:
    """Return float32 thresholds in the middle of equal parts of 0…1: 0.005, 0.015 … 0.995."""
    return ((np.arange(round(1 / step)) + 0.5) * step).astype(np.float32)


@dataclass(frozen=True, slots=True)
class ImageFigures:
    """What a sweep keeps of each of N images at T thresholds."""

    ids: tuple[str, ...]
    iou: np.ndarray
    """float32[N, T], mean IoU over the classes in the image's truth or prediction, background too;
    NaN without any pixel that counts."""
    foreground_cv: np.ndarray
    """float64[N], the coefficient of variation (standard deviation over mean) of a class's
    activation over its true pixels, averaged over the image's labels; NaN where no label has a
    true pixel and an activation above zero there."""
    gap: np.ndarray
    """float64[N], mean activation over the true pixels of the labels (of their own class) minus
    mean over the true background (of the winner); NaN where either has no pixel."""


class ThresholdSweep:
    """Pixel counts int64[C+1, C+1, T+1] by true class, winner class (0: no label) and bin."""

    def __init__(self, classes: int, thresholds: np.ndarray) -> None:
        self.thresholds = np.asarray(thresholds, np.float32)
        if self.thresholds.ndim != 1 or not (np.diff(self.thresholds) > 0).all():
            raise ValueError("thresholds must ascend")
        if len(self.thresholds) and not 0 <= self.thresholds[0] <= self.thresholds[-1] <= 1:
            raise ValueError("thresholds must lie in 0…1")
        self.classes = classes
        self.counts = np.zeros((classes + 1, classes + 1, len(self.thresholds) + 1), np.int64)
        self._starts = first_bins(self.thresholds)
        self._ids: list[str] = []
        self._iou: list[np.ndarray] = []
        self._foreground_cv: list[float] = []
        self._gap: list[float] = []

    def update(
        self, image_id: str, activation: np.ndarray, labels: Sequence[int], truth: np.ndarray
    ) -> None:
        """Add an image.

        Args:
            image_id: Name of the image.
            activation: float32[k, H, W], values 0…1.
            labels: The k channels' classes.
            truth: uint8[H, W]; 255 does not count.

        Raises:
            ValueError: A value of `truth` is no class, or sizes do not fit.
        """
        counts, inside, outside = self._count(activation, labels, truth)
        self.counts[:, list(labels) or [0]] += counts
        self._ids.append(image_id)
        self._iou.append(_image_iou(counts, labels))
        self._foreground_cv.append(_foreground_cv(inside))
        self._gap.append(_gap(inside, outside))

    def _count(
        self, activation: np.ndarray, labels: Sequence[int], truth: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        if not labels:
            return self._count_unlabelled(truth)
        channel_of_class = np.full(IGNORE + 1, -1)
        channel_of_class[list(labels)] = np.arange(len(labels))
        counts, inside, outside, strange = histogram_of_image(
            activation, truth, channel_of_class, self.classes, self.thresholds, self._starts
        )
        if strange >= 0:
            raise self._unknown_value(strange)
        return counts, inside, outside

    def _count_unlabelled(self, truth: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        values = np.bincount(truth.ravel(), minlength=IGNORE + 1)
        strange = np.flatnonzero(values[self.classes + 1 : IGNORE])
        if len(strange):
            raise self._unknown_value(int(strange[0]) + self.classes + 1)
        counts = np.zeros((self.classes + 1, 1, len(self.thresholds) + 1), np.int64)
        counts[:, 0, 0] = values[: self.classes + 1]
        return counts, np.zeros((0, 3)), np.zeros(2)

    def _unknown_value(self, value: int) -> ValueError:
        return ValueError(
            f"truth holds the value {value}, which is neither a class (0 to {self.classes}) nor"
            " 255 (ignored)"
        )

    def confusions(self) -> np.ndarray:
        """Return counts int64[T, C+1, C+1] by threshold, true class and predicted class."""
        above = _above(self.counts)
        confusions = np.moveaxis(above, -1, 0)
        background = self.counts.sum(axis=(1, 2)) - above[:, 1:].sum(axis=1).T
        confusions = confusions.copy()
        confusions[:, :, 0] = background
        return confusions

    def curve(self) -> ThresholdCurve:
        """Return the figures of all images together at every threshold."""
        return ThresholdCurve(self.thresholds, self.confusions())

    def images(self) -> ImageFigures:
        """Return the figures of single images, in the order of the updates."""
        return ImageFigures(
            tuple(self._ids),
            np.array(self._iou, np.float32).reshape(-1, len(self.thresholds)),
            np.array(self._foreground_cv, np.float64),
            np.array(self._gap, np.float64),
        )

    def activation_histograms(self) -> tuple[np.ndarray, np.ndarray]:
        """Return pixel counts int64[T+1] by winner's activation: in true objects, in background.

        Bins are bordered by the thresholds: bin 0 holds values up to the first, bin T those above
        the last. Images without labels have no activation and do not count.
        """
        return self.counts[1:, 1:].sum(axis=(0, 1)), self.counts[0, 1:].sum(axis=0)

    def merge(self, other: "ThresholdSweep") -> None:
        """Append another sweep over other images with the same classes and thresholds."""
        if self.classes != other.classes or not np.array_equal(self.thresholds, other.thresholds):
            raise ValueError("sweeps of different classes or thresholds cannot be merged")
        self.counts += other.counts
        self._ids += other._ids
        self._iou += other._iou
        self._foreground_cv += other._foreground_cv
        self._gap += other._gap

    def tensors(self) -> dict[str, np.ndarray]:
        """Return what a file has to hold, beside the ids."""
        images = self.images()
        return {
            "thresholds": self.thresholds,
            "counts": self.counts,
            "image_iou": images.iou,
            "image_foreground_cv": images.foreground_cv,
            "image_gap": images.gap,
        }

    @classmethod
    def from_tensors(cls, ids: Sequence[str], tensors: dict[str, np.ndarray]) -> Self:
        """Return the sweep whose `tensors` these are."""
        sweep = cls(len(tensors["counts"]) - 1, tensors["thresholds"])
        sweep.counts += tensors["counts"]
        sweep._ids = list(ids)
        sweep._iou = list(tensors["image_iou"])
        sweep._foreground_cv = tensors["image_foreground_cv"].tolist()
        sweep._gap = tensors["image_gap"].tolist()
        return sweep


def _above(counts: np.ndarray) -> np.ndarray:
    """Return for each threshold the pixels above it: [..., T+1] bins to [..., T]."""
    return np.cumsum(counts[..., ::-1], axis=-1)[..., -2::-1]


def _image_iou(counts: np.ndarray, labels: Sequence[int]) -> np.ndarray:
    """Return the mean IoU of one image at each threshold, float32[T], from [C+1, k, T+1]."""
    present = sorted({0, *labels, *np.flatnonzero(counts.any(axis=(1, 2))).tolist()})
    counts = counts[present]
    truth = counts.sum(axis=(1, 2))
    above = _above(counts)
    if not labels:
        above = above[:, :0]
    hits = np.zeros((len(present), above.shape[-1]))
    predicted = np.zeros_like(hits)
    for channel, label in enumerate(labels):
        hits[present.index(label)] = above[present.index(label), channel]
        predicted[present.index(label)] = above[:, channel].sum(axis=0)
    hits[0] = truth[0] - above[0].sum(axis=0)
    predicted[0] = truth.sum() - predicted[1:].sum(axis=0)
    return mean_of_present(iou_of_counts(hits, truth[:, None], predicted).T).astype(np.float32)


def _foreground_cv(inside: np.ndarray) -> float:
    """Return the mean over channels of std / mean, from sums [k, 3] of 1, a and a²."""
    pixels, total, squares = inside[inside[:, 1] > 0].T
    if not len(pixels):
        return float("nan")
    mean = total / pixels
    return float((np.sqrt(np.maximum(squares / pixels - mean**2, 0)) / mean).mean())


def _gap(inside: np.ndarray, outside: np.ndarray) -> float:
    """Return mean inside minus mean outside; NaN where either holds no pixel."""
    pixels = inside[:, 0].sum() if len(inside) else 0.0
    if not pixels or not outside[0]:
        return float("nan")
    return float(inside[:, 1].sum() / pixels - outside[1] / outside[0])


class RefinedSweep:
    """Confusion counts int64[P, C+1, C+1] at P thresholds, and each image's mean IoU there."""

    def __init__(
        self, classes: int, thresholds: Sequence[float] | np.ndarray, refinement: str = CRF
    ) -> None:
        self.thresholds = np.asarray(thresholds, np.float32)
        self.refinement = refinement
        self._confusions = [Confusion.empty(classes) for _ in self.thresholds]
        self._iou: list[np.ndarray] = []

    @property
    def classes(self) -> int:
        """Number of classes, background not counted."""
        return self.counts.shape[1] - 1

    @property
    def counts(self) -> np.ndarray:
        """Counts int64[P, C+1, C+1] by threshold, true class and predicted class."""
        return np.stack([confusion.counts[:, :-1] for confusion in self._confusions])

    def update(self, truth: np.ndarray, refined: Sequence[np.ndarray] | np.ndarray) -> None:
        """Add an image: truth uint8[H, W] and the refined labels uint8[P, H, W].

        Raises ValueError when shapes do not fit or a value is no class.
        """
        if len(refined) != len(self._confusions):
            raise ValueError(f"{len(refined)} masks for {len(self._confusions)} thresholds")
        alone = [c.update(truth, mask) for c, mask in zip(self._confusions, refined, strict=True)]
        self._iou.append(np.array([c.mean_iou("skip") for c in alone], np.float32))

    def curve(self) -> ThresholdCurve:
        """Return the figures of all images together at every threshold."""
        return ThresholdCurve(self.thresholds, self.counts)

    def image_iou(self) -> np.ndarray:
        """Return the mean IoU of each image at each threshold, float32[N, P]."""
        return np.array(self._iou, np.float32).reshape(-1, len(self.thresholds))

    def merge(self, other: "RefinedSweep") -> None:
        """Append another sweep over other images with the same classes and thresholds."""
        if self.counts.shape != other.counts.shape or (self.thresholds != other.thresholds).any():
            raise ValueError("sweeps of different classes or thresholds cannot be merged")
        if self.refinement != other.refinement:
            raise ValueError(f"one is refined by {self.refinement}, one by {other.refinement}")
        for mine, theirs in zip(self._confusions, other._confusions, strict=True):
            mine.merge(theirs)
        self._iou += other._iou

    def tensors(self) -> dict[str, np.ndarray]:
        """Return what a file has to hold."""
        return {
            "refined_thresholds": self.thresholds,
            "refined_counts": self.counts,
            "refined_image_iou": self.image_iou(),
        }

    @classmethod
    def from_tensors(cls, tensors: dict[str, np.ndarray], refinement: str) -> Self:
        """Return the sweep whose `tensors` these are."""
        counts = tensors["refined_counts"]
        sweep = cls(counts.shape[1] - 1, tensors["refined_thresholds"], refinement)
        sweep._confusions = [Confusion(np.pad(one, ((0, 0), (0, 1)))) for one in counts]
        sweep._iou = list(tensors["refined_image_iou"])
        return sweep


@dataclass(frozen=True, slots=True)
class Sweeps:
    """What one method's activations of one split are worth at every threshold."""

    plain: ThresholdSweep
    refined: RefinedSweep | None
    """After a dense CRF or PAR, on a coarse grid; None where it was not asked for."""


def write_sweeps(path: Path, sweeps: Sweeps) -> None:
    """Write the sweeps of a shard; the file appears whole or not at all."""
    tensors = sweeps.plain.tensors()
    about = {"ids": json.dumps(sweeps.plain.images().ids, ensure_ascii=False)}
    if sweeps.refined is not None:
        tensors |= sweeps.refined.tensors()
        about["refinement"] = sweeps.refined.refinement
    with atomic_path(path) as temporary:
        save_file(tensors, temporary, metadata=about)


def read_sweeps(path: Path) -> Sweeps:
    """Read the sweeps of a shard.

    Raises InputError when the file is missing or was not written by `write_sweeps`.
    """
    try:
        with safe_open(str(path), framework="numpy") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            about = file.metadata()
        ids = json.loads(about["ids"])
        refined = None
        if "refined_counts" in tensors:
            refined = RefinedSweep.from_tensors(tensors, about.get("refinement", CRF))
        return Sweeps(ThresholdSweep.from_tensors(ids, tensors), refined)
    except (OSError, SafetensorError, KeyError, TypeError, ValueError) as error:
        raise InputError(
            f"{path}: not a complete threshold sweep ({error}). Delete the file, so that"
            " sweep_thresholds runs again."
        ) from error


def merge_shards(paths: Iterable[Path]) -> Sweeps:
    """Read the shards of a split, in their order, as one.

    Raises InputError when a file cannot be read, or shards disagree about classes or thresholds.
    """
    first, *others = list(paths)
    merged = read_sweeps(first)
    for path in others:
        shard = read_sweeps(path)
        try:
            merged.plain.merge(shard.plain)
            if (merged.refined is None) != (shard.refined is None):
                raise ValueError("only one of them has refined masks")
            if merged.refined is not None and shard.refined is not None:
                merged.refined.merge(shard.refined)
        except ValueError as error:
            raise InputError(
                f"{path}: does not fit {first} ({error}). Delete both, so that sweep_thresholds"
                " runs again."
            ) from error
    return merged
