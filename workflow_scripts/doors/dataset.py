"""The door of datasets: where images, labels and masks come from.

An entry is a file with a class derived from `DatasetSettings`: its fields are what a configuration can say
below `dataset:`, `kind` is its name there, and `prepare` writes the index that all later stages read. An
entry that makes its rows as `Described` and hands them to `write_dataset` (`datasets/consistency.py`) has
images, labels and masks counted and checked against each other.
"""

from abc import abstractmethod
from collections.abc import Callable
from pathlib import Path
from typing import ClassVar

from pydantic import Field, field_validator

from workflow_scripts.doors.door import Door
from workflow_scripts.settings.base import Choice, expanded
from workflow_scripts.storage.file_state import content_digest

Progress = Callable[[str, int, int | None, str], None]
"""Called with a task, how much of it is done, how much it is in all (None: unknown), and the unit:
"B" for bytes, "file" or "img"."""

DIGITS = 12


class DatasetSettings(Choice):
    """Which dataset it is, and where it lies.

    Attributes:
        name: Value of `kind` by which a configuration asks for it.
    """

    tag: ClassVar[str] = "kind"
    name: ClassVar[str]

    kind: str = Field(description="demo, voc12, coco14, folder, or that of a plug-in")

    @field_validator("root", "sbd_root", check_fields=False)
    @classmethod
    def _expanded(cls, path: str | None) -> str | None:
        """Places of datasets may begin with `~`, or have variables such as `$HOME` in them."""
        return expanded(path)

    @classmethod
    def door(cls) -> "Door[DatasetSettings]":
        """The door of datasets."""
        return DATASETS

    @abstractmethod
    def prepare(self, output: Path, processes: int, progress: Progress | None = None) -> None:
        """Write output/index.csv and output/classes.csv, the index last, and what else the kind makes.

        Args:
            output: Folder to write to.
            processes: Number of worker processes; changes no result.
            progress: Called as the work goes on.

        Raises:
            InputError: The dataset cannot be used as it is; the message names file or image.
        """

    def tables(self) -> list[Path]:
        """Tables, lists and annotations that are here already and say which images there are."""
        return []

    def state(self) -> dict[str, str]:
        """What the dataset consists of: another state makes the index anew. By default, its tables' content.

        Tables and lists count by their content, images, masks and large annotations by name, size and time
        of modification. It is asked for whenever the workflow starts, so it should take seconds at most.

        Raises:
            OSError: Something cannot be read.
        """
        return {str(path): content_digest(path)[:DIGITS] for path in self.tables()}

    def splits(self) -> tuple[str, ...] | None:
        """Splits that the index will have; None, the default, where the index alone can tell."""
        return None

    def has_masks(self) -> bool:
        """Whether there is ground truth to evaluate with."""
        return True


DATASETS: Door[DatasetSettings] = Door(
    "dataset", "workflow_scripts.datasets.kinds", DatasetSettings
)
DATASETS.group = "wsss.datasets"
