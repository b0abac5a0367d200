"""Files of mask evaluations: JSON with the counts of a shard and of each of its images."""

import json
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self, TextIO

from workflow_scripts.errors import InputError
from workflow_scripts.evaluation.confusion import Confusion
from workflow_scripts.storage.atomic import atomic_path


class EvaluationWriter:
    """Context manager that writes images one by one, then their sum; nothing piles up in memory."""

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
