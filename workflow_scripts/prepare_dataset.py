"""Make the index of a dataset, the one table that all later stages read.

The first argument is the kind of dataset:

  demo     scenes composed at run time of the embedded photographs
  voc12    PASCAL VOC 2012, with the additional images of SBD
  coco14   MS COCO 2014
  folder   a folder of images and a table of their labels

`python -m workflow_scripts.prepare_dataset KIND --help` lists what each can be told.

Writes index.csv and classes.csv into a folder, and beside them what the kind makes itself: the demo its
images and masks, voc12 and coco14 masks converted to indexed PNG. Images of the other kinds stay where
they are.
"""

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

from pydantic import Field

from workflow_scripts.console.progress import progress
from workflow_scripts.console.stage import USER_ERROR, StageFiles, run_stage
from workflow_scripts.settings.base import Settings

Kind = TypeVar("Kind", bound=Settings)


class Files(StageFiles):
    """Outputs."""

    output: Path = Field(
        description="folder to write to: index.csv, classes.csv and what they name"
    )


class Bars:
    """One progress bar for each task of a preparation, one after another; a context manager."""

    def __init__(self) -> None:
        self._task = ""
        self._bar: Any = None

    def __call__(self, task: str, done: int, total: int | None, unit: str) -> None:
        if task != self._task:
            self.close()
            self._task = task
            self._bar = progress(total=total, description=task, unit=unit, initial=done)
            self._bar.unit_scale = unit == "B"
        # A download that starts anew goes backwards.
        self._bar.update(done - self._bar.n)

    def close(self) -> None:
        if self._bar is not None:
            self._bar.close()
            self._bar = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def _run(
    kind: str,
    settings: type[Kind],
    prepare: Callable[[Kind, Path, int, Bars], None],
    arguments: Sequence[str],
) -> int:
    def work(files: Files, chosen: Kind) -> None:
        with Bars() as bars:
            prepare(chosen, files.output, files.threads, bars)

    return run_stage(f"prepare_dataset {kind}", __doc__, Files, settings, work, arguments)


def _demo(arguments: Sequence[str]) -> int:
    from workflow_scripts.datasets.demo import DemoDatasetSettings, prepare

    return _run("demo", DemoDatasetSettings, prepare, arguments)


def _voc12(arguments: Sequence[str]) -> int:
    from workflow_scripts.datasets.voc12 import Voc12DatasetSettings, prepare

    return _run("voc12", Voc12DatasetSettings, prepare, arguments)


def _coco14(arguments: Sequence[str]) -> int:
    from workflow_scripts.datasets.coco14 import Coco14DatasetSettings, prepare

    return _run("coco14", Coco14DatasetSettings, prepare, arguments)


def _folder(arguments: Sequence[str]) -> int:
    from workflow_scripts.datasets.folder import FolderDatasetSettings, prepare

    return _run("folder", FolderDatasetSettings, prepare, arguments)


KINDS: dict[str, Callable[[Sequence[str]], int]] = {
    "demo": _demo,
    "voc12": _voc12,
    "coco14": _coco14,
    "folder": _folder,
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run the stage; returns its exit code."""
    kind, *arguments = [*(sys.argv[1:] if argv is None else argv)] or ["--help"]
    if kind in KINDS:
        return KINDS[kind](arguments)
    if kind in ("-h", "--help"):
        print(f"usage: python -m workflow_scripts.prepare_dataset {{{','.join(KINDS)}}} …\n")
        print(__doc__)
        return 0
    print(
        f"prepare_dataset: {kind!r} is no kind of dataset; the first argument is one of"
        f" {', '.join(KINDS)}",
        file=sys.stderr,
    )
    return USER_ERROR


if __name__ == "__main__":
    sys.exit(main())
