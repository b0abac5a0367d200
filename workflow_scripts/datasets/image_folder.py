"""Folders of images without an index: what is in them, and what the results for each are called."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from workflow_scripts.datasets.folder_table import IMAGE_SUFFIXES, Folder
from workflow_scripts.errors import InputError


def images_below(folder: Path, without: Path | None = None) -> dict[str, Path]:
    """Return the images below a folder, by path relative to it; those below `without` left out.

    Raises InputError when there is no such folder, or no image in it.
    """
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder of images")
    files = Folder.scan(folder, IMAGE_SUFFIXES, without).files
    if not files:
        raise InputError(f"{folder}: holds no image; known are {', '.join(sorted(IMAGE_SUFFIXES))}")
    return files


def stems(names: Sequence[str]) -> dict[str, str]:
    """Return the name of each image's results, without suffix: `a/cat` for `a/cat.jpg`.

    Where several images share one (`cat.jpg`, `cat.png`) each keeps its suffix: `cat.jpg`.
    """
    short = {name: PurePosixPath(name).with_suffix("").as_posix() for name in names}
    shared = Counter(short.values())
    return {name: name if shared[stem] > 1 else stem for name, stem in short.items()}
