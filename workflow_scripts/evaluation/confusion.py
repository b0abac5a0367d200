"""Confusion matrices of label masks, boundary IoU, the figures read off them, and their files.

Truth 255 never counts. What a prediction of 255 (ignored) means is a choice that changes a figure
by tens of points, so that every figure takes it explicitly: `"wrong"` counts such a pixel as missed
by its true class, `"skip"` leaves it out. Counts keep these pixels apart and serve both.

The mean over classes leaves out classes that occur neither in truth nor in prediction.
"""

import json
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self, TextIO

import numpy as np
from numpy.typing import ArrayLike

from workflow_scripts.errors import InputError
from workflow_scripts.storage.atomic import atomic_path
from workflow_scripts.storage.masks import IGNORE

Policy = Literal["wrong", "skip"]
DIAGONAL_SHARE = 0.02


class Confusion:
    """Pixel counts int64[C+1, C+2] by true class and predicted class 0…C; last column ignored."""

    def __init__(self, counts: np.ndarray) -> None:
        if counts.ndim != 2 or counts.shape[1] != counts.shape[0] + 1:
            raise ValueError(f"counts are [C+1, C+2], not {list(counts.shape)}")
        self.counts = counts.astype(np.int64)

    @classmethod
    def empty(cls, classes: int) -> Self:
        """Return a matrix of zeros for a number of classes (background not counted)."""
        return cls(np.zeros((classes + 1, classes + 2), np.int64))

    @property
    def classes(self) -> int:
        """Number of classes, background not counted."""
        return len(self.counts) - 1

    def update(self, truth: np.ndarray, prediction: np.ndarray) -> "Confusion":
        """Add an image, uint8[H, W] each, and return the counts of this image alone.

        Raises ValueError when the shapes differ or a value is neither a class nor 255.
        """
        if truth.shape != prediction.shape:
            raise ValueError(
                f"truth is of shape {list(truth.shape)}, prediction of {list(prediction.shape)}"
            )
        unknown, size = self.classes + 2, self.classes + 3
        column = np.full(256, unknown)
        column[: self.classes + 1] = np.arange(self.classes + 1)
        column[IGNORE] = self.classes + 1
        pairs = column[truth] * size + column[prediction]
        counts = np.bincount(pairs.ravel(), minlength=size * size).reshape(size, size)
        for name, mask, strange in (
            ("truth", truth, counts[unknown].any()),
            ("prediction", prediction, counts[:, unknown].any()),
        ):
            if strange:
                value = mask[column[mask] == unknown][0]
                raise ValueError(
                    f"{name} holds the value {value}, which is neither a class (0 to"
                    f" {self.classes}) nor 255 (ignored)"
                )
        image = Confusion(counts[: self.classes + 1, : self.classes + 2])
        self.counts += image.counts
        return image

    def merge(self, other: "Confusion") -> None:
        """Add the counts of another matrix of as many classes."""
        if self.counts.shape != other.counts.shape:
            raise ValueError("confusion matrices of different numbers of classes")
        self.counts += other.counts

    def iou(self, ignored: Policy) -> np.ndarray:
        """Return intersection over union of each class, float64[C+1]; NaN where it never occurs."""
        return iou_of_counts(*self.hits_truth_predicted(ignored))

    def mean_iou(self, ignored: Policy) -> float:
        """Return the mean of `iou` over the classes that occur in truth or prediction."""
        return float(mean_of_present(self.iou(ignored)))

    def precision(self, ignored: Policy) -> np.ndarray:
        """Return the correct share of each class's predictions; NaN where never predicted."""
        hits, _, predicted = self.hits_truth_predicted(ignored)
        return _ratio(hits, predicted)

    def recall(self, ignored: Policy) -> np.ndarray:
        """Return the found share of each class's true pixels; NaN where it is not in truth."""
        hits, truth, _ = self.hits_truth_predicted(ignored)
        return _ratio(hits, truth)

    def pixel_accuracy(self, ignored: Policy) -> float:
        """Return the share of counted pixels with the right label; NaN without pixels."""
        hits, truth, _ = self.hits_truth_predicted(ignored)
        return float(_ratio(hits.sum(), truth.sum()))

    def errors(self, ignored: Policy) -> "ErrorKinds":
        """Return the shares of counted pixels that are wrong, by kind."""
        square = self.counts[:, :-1]
        unlabelled = self.counts[:, -1].sum() if ignored == "wrong" else 0
        total = square.sum() + unlabelled
        objects = square[1:, 1:]
        return ErrorKinds(
            missed_object=float(_ratio(square[1:, 0].sum(), total)),
            leaked_background=float(_ratio(square[0, 1:].sum(), total)),
            wrong_class=float(_ratio(objects.sum() - np.trace(objects), total)),
            unlabelled=float(_ratio(unlabelled, total)),
        )

    def hits_truth_predicted(self, ignored: Policy) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return the right, true and predicted pixels of each class, int64[C+1] each."""
        counted = self.counts if ignored == "wrong" else self.counts[:, :-1]
        return np.diagonal(self.counts), counted.sum(axis=1), self.counts[:, :-1].sum(axis=0)

    def to_json(self) -> list[list[int]]:
        """Return the counts as nested lists."""
        return self.counts.tolist()

    @classmethod
    def from_json(cls, rows: Any) -> Self:
        """Return the matrix that `to_json` wrote; raises ValueError for anything else."""
        return cls(np.array(rows, dtype=np.int64))

    def to_cells(self) -> list[list[int]]:
        """Return the counts above zero as [truth, predicted column, pixels], for single images."""
        rows, columns = np.nonzero(self.counts)
        return np.stack([rows, columns, self.counts[rows, columns]], axis=1).tolist()

    @classmethod
    def from_cells(cls, classes: int, cells: Iterable[Sequence[int]]) -> Self:
        """Return the matrix that `to_cells` wrote."""
        matrix = cls.empty(classes)
        for row, column, pixels in cells:
            matrix.counts[row, column] = pixels
        return matrix


@dataclass(frozen=True, slots=True)
class ErrorKinds:
    """Shares of the counted pixels (0…1), by what is wrong with them."""

    missed_object: float
    """True object predicted as background."""
    leaked_background: float
    """True background predicted as an object."""
    wrong_class: float
    """True object predicted as an object of another class."""
    unlabelled: float
    """Predicted as ignored, where that counts as wrong."""


def iou_of_counts(hits: np.ndarray, truth: np.ndarray, predicted: np.ndarray) -> np.ndarray:
    """Return hits / (truth + predicted - hits), NaN where a class occurs in neither."""
    return _ratio(hits, truth + predicted - hits)


def mean_of_present(values: np.ndarray) -> np.ndarray:
    """Return the mean over the last axis of the values that are not NaN; NaN without any."""
    present = ~np.isnan(values)
    return _ratio(np.where(present, values, 0.0).sum(axis=-1), present.sum(axis=-1))


def _ratio(part: ArrayLike, whole: ArrayLike) -> np.ndarray:
    part, whole = np.asarray(part, np.float64), np.asarray(whole, np.float64)
    return np.divide(part, whole, out=np.full(np.shape(whole), np.nan), where=whole > 0)


def border(region: np.ndarray, distance: int) -> np.ndarray:
    """Return the pixels of bool[H, W] within `distance` steps of a pixel outside."""
    side = 2 * distance + 1
    sums = np.pad(region, distance).astype(np.int64).cumsum(axis=0).cumsum(axis=1)
    sums = np.pad(sums, ((1, 0), (1, 0)))
    inside = sums[side:, side:] - sums[:-side, side:] - sums[side:, :-side] + sums[:-side, :-side]
    return region & (inside < side * side)


class BoundaryIou:
    """Border pixels by class, int64[3, C+1]: in both masks, in truth, in prediction.

    Cheng et al., "Boundary IoU: Improving Object-Centric Image Segmentation Evaluation", CVPR 2021. The
    border of a class's region are its pixels within a distance d of its outside (steps along the eight
    neighbours; the outside of the image counts), d being 2 % of the image's diagonal. Counts are added
    over images before they are divided, as for mIoU.
    """

    def __init__(self, classes: int) -> None:
        self.counts = np.zeros((3, classes + 1), np.int64)

    def update(self, truth: np.ndarray, prediction: np.ndarray) -> None:
        """Add an image, uint8[H, W] each; pixels of truth 255 do not count."""
        distance = max(1, round(DIAGONAL_SHARE * float(np.hypot(*truth.shape))))
        counted = truth != IGNORE
        occurs = np.bincount(truth.ravel(), minlength=256) + np.bincount(
            prediction.ravel(), minlength=256
        )
        for label in np.flatnonzero(occurs[: self.counts.shape[1]]):
            in_truth, in_prediction = truth == label, prediction == label
            borders = [border(region, distance) & counted for region in (in_truth, in_prediction)]
            self.counts[0, label] += np.count_nonzero(borders[0] & borders[1])
            self.counts[1, label] += np.count_nonzero(borders[0])
            self.counts[2, label] += np.count_nonzero(borders[1])

    def iou(self) -> np.ndarray:
        """Return the boundary IoU of each class, float64[C+1]; NaN where it never occurs."""
        return iou_of_counts(*self.counts)

    def mean(self) -> float:
        """Return the mean over the classes that occur."""
        return float(mean_of_present(self.iou()))


class EvaluationWriter:
    """Context manager that writes the evaluation of a shard of masks (JSON).

    Images are written one by one, then their sum; nothing piles up in memory.
    """

    def __init__(self, path: Path, classes: Sequence[str]) -> None:
        self._path = path
        self._classes = list(classes)
        self._total = Confusion.empty(len(classes))
        self._images = 0
        self._stack = ExitStack()
        self._file: TextIO

    def __enter__(self) -> Self:
        temporary = self._stack.enter_context(atomic_path(self._path))
        self._file = self._stack.enter_context(temporary.open("w", encoding="utf-8"))
        self._file.write(f'{{"classes": {_text(self._classes)},\n"images": {{')
        return self

    def write(self, image_id: str, confusion: Confusion) -> None:
        """Append the counts of one image."""
        comma = "," if self._images else ""
        self._file.write(f"{comma}\n{_text(image_id)}: {_text(confusion.to_cells())}")
        self._total.merge(confusion)
        self._images += 1

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if error is None:
            self._file.write(f'\n}},\n"counts": {_text(self._total.to_json())}}}\n')
        self._stack.__exit__(kind, error, trace)


def _text(value: object) -> str:
    return json.dumps(value, ensure_ascii=False)


@dataclass(frozen=True, slots=True)
class Evaluation:
    """Masks against truth: counts of all images, and of each one as `Confusion.to_cells`."""

    classes: tuple[str, ...]
    total: Confusion
    images: dict[str, list[list[int]]]


def read_evaluation(path: Path) -> Evaluation:
    """Read the evaluation of one shard.

    Raises InputError when the file is missing or was not written by `EvaluationWriter`.
    """
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        total = Confusion.from_json(values["counts"])
        if total.classes != len(values["classes"]):
            raise ValueError(f"{total.classes} classes counted, {len(values['classes'])} named")
        return Evaluation(tuple(values["classes"]), total, values["images"])
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise InputError(
            f"{path}: not a complete evaluation ({error}). Delete the file, so that"
            " evaluate_masks runs again."
        ) from error


def merge_evaluations(paths: Iterable[Path]) -> Evaluation:
    """Read the evaluations of a split's shards, in their order, as one.

    Raises InputError when a file cannot be read, or shards disagree about classes.
    """
    first, *others = list(paths)
    merged = read_evaluation(first)
    for path in others:
        shard = read_evaluation(path)
        if shard.classes != merged.classes:
            raise InputError(
                f"{path}: its classes are not those of {first}. Delete both, so that"
                " evaluate_masks runs again."
            )
        merged.total.merge(shard.total)
        merged.images.update(shard.images)
    return merged
