"""Whether images, labels and masks of a dataset agree: counted while the index is written, and told.

The counts are logged as a table and written beside the index, to `dataset.json`, for the report. Masks that
cannot be meant as they are end the preparation: no method can be evaluated on them.
"""

import json
import logging
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from workflow_scripts.datasets.index import IndexRow, write_index
from workflow_scripts.errors import InputError
from workflow_scripts.storage.atomic import atomic_path

logger = logging.getLogger(__name__)

NAME = "dataset.json"
# The counts of a split in words, in the order in which they are told.
COUNTS = {
    "images": "images",
    "without_labels": "without labels",
    "masks": "masks",
    "agree": "agree",
    "other_classes": "other classes",
    "missing_classes": "classes missing",
    "no_class": "no class",
}
_SHOWN = 3
# Of so many masks none shows a class of its image by chance alone.
_SUSPICIOUS = 3


class Described(NamedTuple):
    """An image as it was found.

    Attributes:
        row: Its row of the index.
        shown: Classes that its mask shows; None if it has none.
        ignored: Whether its mask has ignored pixels (255).
    """

    row: IndexRow
    shown: tuple[str, ...] | None
    ignored: bool = False


@dataclass
class SplitCounts:
    """Images of a split.

    Attributes:
        images: All.
        without_labels: Those that show no class by their labels.
        masks: Those with a mask; the rest counts these alone.
        agree: The mask shows the labelled classes and no others.
        other_classes: The mask shows a class that the labels do not name.
        missing_classes: The mask lacks a labelled class.
        no_class: The labels name a class, the mask shows none.
    """

    images: int = 0
    without_labels: int = 0
    masks: int = 0
    agree: int = 0
    other_classes: int = 0
    missing_classes: int = 0
    no_class: int = 0


@dataclass
class Survey:
    """Counts over the images of a dataset."""

    classes: tuple[str, ...]
    left_out: Mapping[str, int] = field(default_factory=dict)
    splits: dict[str, SplitCounts] = field(default_factory=dict)
    images_of: Counter[tuple[str, str]] = field(default_factory=Counter)
    masks_of: Counter[tuple[str, str]] = field(default_factory=Counter)
    examples: dict[str, list[str]] = field(default_factory=dict)
    labelled_masks: int = 0
    only_ignored: int = 0
    right_somewhere: int = 0

    def add(self, image: Described) -> None:
        """Count an image."""
        row, shown = image.row, image.shown
        counts = self.splits.setdefault(row.split, SplitCounts())
        labels = set(row.labels)
        counts.images += 1
        counts.without_labels += not labels
        self.images_of.update((name, row.split) for name in labels)
        if shown is None:
            return
        counts.masks += 1
        self.masks_of.update((name, row.split) for name in shown)
        other, missing = set(shown) - labels, labels - set(shown)
        counts.agree += not other and not missing
        if other:
            counts.other_classes += 1
            self._example("other_classes", row, other)
        if missing:
            counts.missing_classes += 1
            self._example("missing_classes", row, missing)
        if labels:
            self.labelled_masks += 1
            counts.no_class += not shown
            self.only_ignored += not shown and image.ignored
            self.right_somewhere += bool(labels & set(shown))

    def _example(self, kind: str, row: IndexRow, names: Iterable[str]) -> None:
        known = self.examples.setdefault(kind, [])
        if len(known) < _SHOWN:
            known.append(f"{row.mask}: {', '.join(map(repr, sorted(names)))}")

    def check(self) -> None:
        """Raise InputError where the masks cannot be meant as they are."""
        masks = self.labelled_masks
        if not masks or self.right_somewhere:
            return
        where = f"the masks of all {masks} labelled images that have one"
        if self.only_ignored == masks:
            raise InputError(
                f"{where} hold 0 and 255 alone, and 255 means ignored: nothing could be evaluated. Write"
                " the number of the class (1 for the first) in place of 255, or take the masks out."
            )
        if sum(counts.no_class for counts in self.splits.values()) == masks:
            raise InputError(
                f"{where} show no class, background alone. Are they other files, or values stretched or"
                " lost by a program? Write class numbers (1 for the first class), or take the masks out."
            )
        if masks >= _SUSPICIOUS:
            raise InputError(
                f"{where} show other classes than their labels, for instance"
                f" {'; '.join(self.examples['other_classes'])}. Give the classes in the order of the masks'"
                " numbers (`dataset.classes`), or correct the masks or the labels."
            )

    def warnings(self) -> list[str]:
        """What makes results hard to read, in sentences."""
        found = []
        for split, counts in self.splits.items():
            if 0 < counts.masks < counts.images:
                found.append(
                    f"{counts.images - counts.masks} images of split {split} have no mask; evaluation"
                    " leaves them out"
                )
            absent = [
                name
                for name in self.classes
                if not self.images_of[name, split]
                and any(self.images_of[name, other] for other in self.splits)
            ]
            if absent and counts.images > counts.without_labels:
                found.append(
                    f"no image of split {split} has the class {', '.join(map(repr, absent))}"
                )
        for kind, words in (
            ("other_classes", "shows a class that its image's labels do not name"),
            ("missing_classes", "lacks a class that its image's labels name"),
        ):
            number = sum(getattr(counts, kind) for counts in self.splits.values())
            if number:
                found.append(
                    f"{number} time(s) a mask {words} ({'; '.join(self.examples[kind])}"
                    f"{'; …' if number > _SHOWN else ''}). Correct the masks or the labels."
                )
        return found

    def as_dictionary(self) -> dict[str, Any]:
        """The counts as they are written to `dataset.json`."""
        return {
            "splits": {split: asdict(counts) for split, counts in self.splits.items()},
            "classes": [
                {
                    "number": number,
                    "name": name,
                    "images": {split: self.images_of[name, split] for split in self.splits},
                    "masks": {split: self.masks_of[name, split] for split in self.splits},
                }
                for number, name in enumerate(self.classes, start=1)
            ],
            "left_out": dict(self.left_out),
            "warnings": self.warnings(),
        }


def table(found: Mapping[str, Any]) -> str:
    """What `dataset.json` holds as lines of text: one a split, then one a class."""
    splits, classes = found["splits"], found["classes"]
    rows: list[tuple[str, ...]] = [("", *COUNTS.values())]
    rows += [(split, *(str(counts[name]) for name in COUNTS)) for split, counts in splits.items()]
    lines = _aligned(rows)
    if any(counts["masks"] for counts in splits.values()):
        lines.append(
            "(of the masks: agree with the labels, show other classes, lack one, show none)"
        )
    rows = [("class", "", *(f"{split}: images, masks" for split in splits))]
    for one in classes:
        counts_of = (f"{one['images'][split]}, {one['masks'][split]}" for split in splits)
        rows.append((str(one["number"]), one["name"], *counts_of))
    lines += _aligned(rows)
    if found["left_out"]:
        lines.append(
            "left out: " + "; ".join(f"{number} {why}" for why, number in found["left_out"].items())
        )
    return "\n".join(lines)


def read_survey(index: Path) -> dict[str, Any] | None:
    """What `dataset.json` beside an index holds; None where the dataset's kind has written none."""
    path = index.with_name(NAME)
    try:
        found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: not readable ({error}); run prepare_dataset again") from error
    return found


def _aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]


def write_dataset(
    output: Path,
    classes: Sequence[str],
    images: Iterable[Described],
    left_out: Mapping[str, Sequence[str]] | None = None,
) -> Survey:
    """Write index.csv, classes.csv and dataset.json into a folder, log the counts, and return them.

    Args:
        output: The folder.
        classes: Names of the classes, in order.
        images: The images, one after another; the index is not written if drawing them fails.
        left_out: Names of files that do not count, by reason.

    Raises:
        InputError: As `write_index`, or the masks cannot be meant as they are.
    """
    survey = Survey(tuple(classes), {why: len(names) for why, names in (left_out or {}).items()})

    def rows() -> Iterator[IndexRow]:
        for image in images:
            survey.add(image)
            yield image.row
        survey.check()
        with atomic_path(output / NAME) as temporary:
            text = json.dumps(survey.as_dictionary(), ensure_ascii=False, indent=1)
            temporary.write_text(text + "\n", encoding="utf-8")

    write_index(output / "index.csv", classes, rows())
    logger.info("images, labels and masks:\n%s", table(survey.as_dictionary()))
    for warning in survey.warnings():
        logger.warning("%s", warning)
    return survey
