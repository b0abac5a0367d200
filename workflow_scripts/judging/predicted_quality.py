"""Predicted IoU of sets of masks without any true one: of regions, images, classes and sets.

Evidence on a region (`mask_evidence`) gives a predicted IoU, by weights that were fitted once, on runs with
true masks (`python -m tools.judge_calibration`), and stand in calibration.json. With a region's area, taken
for the true one's, an IoU q means an intersection 2q/(1+q) and a union 2/(1+q) of that area; added over the
images, these give the IoU of a class as evaluation has it. How far the means over classes were off on data
that took no part in the fit is part of the calibration too.
"""

import json
import math
from array import array
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from workflow_scripts.evaluation.confusion import mean_of_present
from workflow_scripts.judging.mask_evidence import KINDS, RegionEvidence

FILE = Path(__file__).with_name("calibration.json")
# Quantile of the normal distribution that holds 90 % in the middle.
NINETY = 1.6449
_LEAST, _MOST = 0.01, 0.99


@dataclass(frozen=True)
class Calibration:
    """Weights of the evidence, and what is known of the errors of what they predict.

    Attributes:
        foreground: Weights of `design`'s columns for regions of classes.
        background: The same for the background.
        level: Intercept and slope from the predicted to the true mean IoU of a set (0…1).
        error: Standard deviation of a set's mean IoU about that line.
        pair_error: The same of the difference between two sets of the same images.
        class_level: Intercept and slope of the IoU of classes.
        class_error: Standard deviation of the IoU of a class that many images show, and the part that falls
            with the number of images, as variance times images.
        fitted_on: What it was fitted on, in words.
    """

    foreground: tuple[float, ...]
    background: tuple[float, ...]
    level: tuple[float, float] = (0.0, 1.0)
    error: float = 0.0
    pair_error: float = 0.0
    class_level: tuple[float, float] = (0.0, 1.0)
    class_error: tuple[float, float] = (0.0, 0.0)
    fitted_on: tuple[str, ...] = ()

    def write(self, path: Path) -> None:
        """Write as JSON."""
        path.write_text(json.dumps(asdict(self), indent=1) + "\n", encoding="utf-8")

    @classmethod
    def read(cls, path: Path) -> "Calibration":
        """Read what `write` wrote."""
        values = json.loads(path.read_text(encoding="utf-8"))
        given: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value
            for name, value in values.items()
        }
        return cls(**given)


@cache
def published() -> Calibration:
    """The calibration that comes with the workflow."""
    return Calibration.read(FILE)


def design(evidence: np.ndarray) -> np.ndarray:
    """Columns that weights are for: 1, each kind of evidence, and the products of each two.

    Args:
        evidence: float [n, k].

    Returns:
        float [n, (k + 1)(k + 2) / 2].
    """
    rows, columns = np.triu_indices(evidence.shape[1])
    products = evidence[:, rows] * evidence[:, columns]
    return np.concatenate([np.ones((len(evidence), 1)), evidence, products], axis=1)


def region_iou(numbers: np.ndarray, evidence: np.ndarray, calibration: Calibration) -> np.ndarray:
    """Predicted IoU in 0.01…0.99 of regions of classes `numbers` [n] with evidence [n, k]."""
    columns = design(evidence)
    foreground = columns @ np.asarray(calibration.foreground)
    background = columns @ np.asarray(calibration.background)
    return np.where(numbers == 0, background, foreground).clip(_LEAST, _MOST)


class SetOfMasks:
    """What is kept of one set: fifty bytes for each region of each image."""

    def __init__(self) -> None:
        self._images, self._numbers, self._expected = array("q"), array("B"), array("B")
        self._shares, self._values = array("d"), array("f")

    def add(self, image: int, regions: Sequence[RegionEvidence]) -> None:
        """Add the regions of an image, by its position."""
        for region in regions:
            self._images.append(image)
            self._numbers.append(region.number)
            self._shares.append(region.share)
            self._expected.append(region.expected)
            self._values.extend(region.values.tolist())

    def table(self) -> "RegionTable":
        """The regions as arrays."""
        return RegionTable(
            np.array(self._images, np.intp),
            np.array(self._numbers, np.intp),
            np.array(self._shares, np.float64),
            np.array(self._expected, bool),
            np.array(self._values, np.float64).reshape(-1, len(KINDS)),
        )


@dataclass(frozen=True)
class RegionTable:
    """Regions of one set: image and class of each, share of its image, whether expected, evidence."""

    images: np.ndarray
    numbers: np.ndarray
    shares: np.ndarray
    expected: np.ndarray
    values: np.ndarray

    @property
    def evidence(self) -> np.ndarray:
        """`values`, and 1 over the number of labels of the image: of one label it is known which it is.

        float64 [n, len(KINDS) + 1]; 0 for regions without pixels.
        """
        classes = self.expected & (self.numbers > 0)
        labels = np.bincount(self.images[classes], minlength=self.images.max(initial=0) + 1)
        alone = 1 / np.maximum(labels[self.images], 1)
        return np.concatenate([np.nan_to_num(self.values), alone[:, None]], axis=1)

    @property
    def shows_a_class(self) -> bool:
        """Whether any mask has a pixel of a class that its image's labels name."""
        return bool((self.judged & (self.numbers > 0)).any())

    @property
    def judged(self) -> np.ndarray:
        """Regions whose IoU is not 0 for sure: with pixels, and of a class that the image shows."""
        return self.expected & (self.shares > 0)


@dataclass(frozen=True)
class PredictedCounts:
    """Predicted intersection, union and true area of each region, in shares of its image."""

    regions: RegionTable
    intersection: np.ndarray
    union: np.ndarray
    truth: np.ndarray

    @classmethod
    def of(cls, regions: RegionTable, iou: np.ndarray) -> "PredictedCounts":
        """From the predicted IoU of the regions, which is ignored where it is 0 for sure.

        A class that an image shows and its mask lacks counts with the area that the class has elsewhere.
        """
        shares, judged = regions.shares, regions.judged
        q = np.where(judged, iou, 0.0)
        truth = np.where(regions.expected, shares, 0.0)
        missing = regions.expected & (shares == 0)
        for number in np.unique(regions.numbers[missing]):
            alike = regions.numbers == number
            elsewhere = shares[alike & judged]
            if not len(elsewhere):
                elsewhere = shares[judged & (regions.numbers > 0)]
            truth[alike & missing] = np.median(elsewhere) if len(elsewhere) else 1.0
        union = np.where(judged, 2 * shares / (1 + q), np.maximum(truth, shares))
        return cls(regions, q * union, union, truth)

    def class_iou(self, classes: int) -> np.ndarray:
        """Predicted IoU of background and classes, float64 [C + 1]; NaN of a class that never occurs."""
        hits, unions = self._sums(classes)
        return np.divide(hits, unions, out=np.full(classes + 1, np.nan), where=unions > 0)

    def _sums(self, classes: int) -> tuple[np.ndarray, np.ndarray]:
        numbers = self.regions.numbers
        return tuple(  # type: ignore[return-value]
            np.bincount(numbers, column, classes + 1) for column in (self.intersection, self.union)
        )

    def gains(self, classes: int, images: int) -> np.ndarray:
        """By how much the mean IoU over classes would rise if an image's mask became the true one, [images].

        A class's IoU ΣI / ΣU becomes (ΣI − I + T) / (ΣU − U + T), with T the image's true area.
        """
        hits, unions = self._sums(classes)
        numbers = self.regions.numbers
        present = max(1, int((unions > 0).sum()))
        left = np.maximum(unions[numbers] - self.union + self.truth, 1e-12)
        after = (hits[numbers] - self.intersection + self.truth) / left
        before = hits[numbers] / np.maximum(unions[numbers], 1e-12)
        gone = unions[numbers] - self.union + self.truth <= 1e-12
        rise = np.where(gone, 0.0, after - before) / present
        return np.bincount(self.regions.images, rise, images)

    def image_iou(self, images: int) -> np.ndarray:
        """Mean predicted IoU over the classes of each image, background included, float64 [images]."""
        own = self.intersection / np.maximum(self.union, 1e-12)
        sums = np.bincount(self.regions.images, own, images)
        return sums / np.maximum(np.bincount(self.regions.images, minlength=images), 1)


@dataclass(frozen=True)
class Estimate:
    """A share 0…1 with a 90 % interval."""

    value: float
    low: float
    high: float

    @classmethod
    def around(cls, value: float, error: float) -> "Estimate":
        """A value with a standard deviation, within 0…1."""
        inside = np.clip([value, value - NINETY * error, value + NINETY * error], 0.0, 1.0)
        return cls(*map(float, inside))


@dataclass(frozen=True)
class Judgement:
    """What is predicted of one set of masks.

    Attributes:
        miou: Mean IoU over background and classes.
        class_iou: IoU of each class that occurs, background included, by number.
        gains: Expected rise of the mean IoU by correcting each image, float64 [images].
        image_iou: Predicted mean IoU of each image, float64 [images].
    """

    miou: Estimate
    class_iou: dict[int, Estimate]
    gains: np.ndarray
    image_iou: np.ndarray


def judge(regions: RegionTable, classes: int, images: int) -> Judgement:
    """Predict the quality of a set of masks by the published calibration.

    Args:
        regions: Evidence on the set's regions.
        classes: C, the number of classes.
        images: How many images there are.
    """
    calibration = published()
    counts = predicted_counts(regions, calibration)
    iou = counts.class_iou(classes)
    shown = np.bincount(regions.numbers[regions.expected], minlength=classes + 1)
    (level, slope), (base, fall) = calibration.class_level, calibration.class_error
    by_class = {
        int(number): Estimate.around(
            level + slope * iou[number], math.sqrt(base**2 + fall / max(1, shown[number]))
        )
        for number in np.flatnonzero(~np.isnan(iou))
    }
    level, slope = calibration.level
    mean = level + slope * float(mean_of_present(iou))
    return Judgement(
        Estimate.around(mean, calibration.error),
        by_class,
        slope * counts.gains(classes, images),
        counts.image_iou(images),
    )


def predicted_counts(regions: RegionTable, calibration: Calibration) -> PredictedCounts:
    """Predicted counts of a set's regions."""
    return PredictedCounts.of(regions, region_iou(regions.numbers, regions.evidence, calibration))


def better(one: Judgement, other: Judgement) -> float:
    """Probability that the true mean IoU of one set exceeds that of another one of the same images."""
    difference = one.miou.value - other.miou.value
    error = max(published().pair_error, 1e-9)
    return 0.5 * (1 + math.erf(difference / (math.sqrt(2) * error)))
