"""Convert masks into the layout of an annotation tool, or an annotation tool's corrected masks back.

Reads masks of all kinds that a dataset's may be (CVAT's in colours, with their labelmap.txt, among them),
the workflow's zip shards, files of labelme or an export of Label Studio; writes `masks` (indexed PNG, as
`dataset.masks` wants them), `cvat` (also Datumaro's), `labelme`, `label_studio` or `ultralytics`. No pixel
changes. With `--order` (and `--first`) just the masks that are worth a look are converted.
"""

import shutil
import sys
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import Literal

import numpy as np
from pydantic import Field

from workflow_scripts.console.progress import progress
from workflow_scripts.console.stage import NoSettings, StageFiles, run_stage
from workflow_scripts.datasets.files import IMAGE_SUFFIXES, Folder, file_path, unique_names
from workflow_scripts.datasets.index import read_classes
from workflow_scripts.datasets.mask_formats import COMMAND, FORMATS, READABLE, readers
from workflow_scripts.datasets.result_folder import ResultFolder
from workflow_scripts.datasets.table import make_ids
from workflow_scripts.errors import InputError
from workflow_scripts.evaluation.truth import masks_below
from workflow_scripts.report.judged_table import in_order
from workflow_scripts.storage.atomic import atomic_path
from workflow_scripts.storage.masks import IGNORE


class Files(StageFiles):
    """Inputs and outputs."""

    masks: Path = Field(description="folder of masks, or a tool's export")
    source: Literal["masks", "labelme", "label_studio"] = Field(
        "masks", description="what they are: `masks` for files of masks, CVAT's too"
    )
    to: Literal["masks", "cvat", "labelme", "label_studio", "ultralytics"] = Field(
        description="the layout to write"
    )
    classes: Path = Field(description="classes.csv of the run or dataset, the names in order")
    images: Path | None = Field(
        None,
        description="folder of the photographs, whose file names labelme and Label Studio want",
    )
    with_images: bool = Field(
        False, description="copy the photographs too, to where the tool looks for them"
    )
    order: Path | None = Field(
        None,
        description="images.csv of `judge`, or a list that the gallery saved: convert the masks of the "
        "images that it names, in the order in which to look at them",
    )
    first: int | None = Field(
        None,
        ge=1,
        description="convert so many masks alone, the first of the order or of all; --out may not hold "
        "masks of others",
    )
    out: Path = Field(description="folder to write to")


def image_names(folder: Path, photographs: Sequence[str], names: Sequence[str]) -> dict[str, str]:
    """File names of the photographs that masks belong to, by name of the mask.

    Args:
        folder: The folder of the photographs, for messages.
        photographs: All that are in it.
        names: Of the masks.

    Raises:
        InputError: A mask has no photograph, or two.
    """
    found: dict[str, set[str]] = {}
    for file, image_id in zip(photographs, make_ids(photographs), strict=True):
        # A mask is called as its image: cat.png or, where there are several, cat.jpg.png; the workflow's
        # own are called by the image's id, without folders.
        for name in {PurePosixPath(file).with_suffix("").as_posix(), file, image_id}:
            found.setdefault(name, set()).add(file)
    missing = [name for name in names if name not in found]
    if missing:
        raise InputError(
            f"{folder}: no photograph for {len(missing)} of {len(names)} masks, for instance {missing[0]!r};"
            " name them alike, or leave `--images` out"
        )
    for name in names:
        if len(found[name]) > 1:
            raise InputError(
                f"{folder}: {' and '.join(sorted(found[name]))} have the name of the mask {name!r}; call"
                " masks by the whole file names of their images, or remove one"
            )
    return {name: next(iter(found[name])) for name in names}


def work(files: Files, settings: NoSettings) -> None:
    """Convert the masks."""
    classes = read_classes(files.classes)
    tools = [kind.name for kind in READABLE]
    masks = (
        dict(readers(files.source, classes, files.masks))
        if files.source in tools
        else masks_below(files.masks, classes)
    )
    names = list(masks)
    if files.order is not None:
        names = in_order(
            files.order, dict(zip(names, zip(names, make_ids(names), strict=True), strict=True))
        )
    names = names[: files.first]
    images = {name: f"{name}.jpg" for name in names}
    called = {name: name for name in names}
    photographs: dict[str, Path] = {}
    if files.images is not None:
        found = Folder.scan(files.images, IMAGE_SUFFIXES).files
        images = image_names(files.images, list(found), names)
        if files.to == "masks":
            # Back beside the photographs, masks have their names, as a dataset wants them.
            own = dict(zip(found, unique_names(list(found)), strict=True))
            called = {name: own[image] for name, image in images.items()}
        photographs = {name: found[image] for name, image in images.items()}
    elif files.with_images:
        raise InputError("--with-images copies photographs; give --images, their folder")
    writer = FORMATS[files.to](classes)
    copies: dict[str, Path] = {}
    if files.with_images:
        # Copies are called as their masks are, which the tool then finds.
        images = {name: called[name] + photographs[name].suffix for name in names}
        copies = {name: Path(writer.photographs) / file_path(images[name]) for name in names}
    results = ResultFolder(
        files.out,
        COMMAND,
        [*writer.files([called[name] for name in names]), *copies.values()],
        replaces=files.order is None and files.first is None,
    )
    for name in progress(names, description=COMMAND):
        mask = masks[name]()
        strange = np.setdiff1d(mask, [*range(len(classes) + 1), IGNORE])
        if strange.size:
            raise InputError(
                f"{files.masks}: mask {name!r} has the value {strange[0]}; expected 0 to {len(classes)}, as"
                f" {files.classes} lists the classes, or {IGNORE}. Give the list that it was made with."
            )
        writer.write(results, called[name], images[name], mask)
        if name in copies:
            with atomic_path(results.path(copies[name])) as temporary:
                shutil.copyfile(photographs[name], temporary)
    writer.finish(results)
    results.finish()


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit code."""
    return run_stage(COMMAND, __doc__, Files, NoSettings, work, argv)


if __name__ == "__main__":
    sys.exit(main())
