"""Settings of a dataset of one's own: a folder of images and a table of their labels."""

from typing import Literal

from pydantic import Field, field_validator

from workflow_scripts.settings.base import Settings


class FolderDatasetSettings(Settings):
    """A folder of images and a table with the columns `image` and `labels`."""

    kind: Literal["folder"] = Field(default="folder", description="Images of your own.")
    root: str = Field(
        default="data/folder",
        min_length=1,
        description="The folder that holds images, table and masks. It is never written to.",
    )
    images: str = Field(
        default="images",
        description=(
            "Folder of the images, inside `root`; `root` itself where there is no such folder."
        ),
    )
    labels: str = Field(
        default="labels.csv",
        min_length=1,
        description=(
            "Table of the images, inside `root`: a CSV file with a column `image` (a path inside"
            " the folder of images), a column `labels` (class names separated by `;`, empty for an"
            " image that shows none) and, optionally, a column `split` (`train`, `val`)."
        ),
    )
    masks: str = Field(
        default="masks",
        min_length=1,
        description=(
            "Folder of ground-truth masks for evaluation, inside `root`; it may be missing. The"
            " mask of `cat.jpg` is the indexed or grey `cat.png` (or `cat.jpg.png`): 0 background,"
            " i the i-th class, 255 ignore."
        ),
    )
    classes: tuple[str, ...] = Field(
        default=(),
        description="Names of the classes, in order. Empty: all names in the table, sorted.",
    )
    val_share: float = Field(
        default=0.2,
        gt=0,
        lt=1,
        description="Share of the images that become split `val` where the table has no `split`.",
    )
    split_seed: int = Field(
        default=0,
        ge=0,
        description="Seed of that choice; it depends on the ids of the images alone.",
    )

    @field_validator("classes")
    @classmethod
    def _names_are_usable(cls, classes: tuple[str, ...]) -> tuple[str, ...]:
        for name in classes:
            if not name.strip() or name != name.strip() or ";" in name:
                raise ValueError(
                    f"class name {name!r}: must not be empty, hold `;`, or begin or end with a"
                    " space"
                )
        double = sorted({name for name in classes if classes.count(name) > 1})
        if double:
            raise ValueError(f"class named twice: {', '.join(double)}")
        if len(classes) > 254:
            raise ValueError("masks have 8 bits: at most 254 classes")
        return classes
