"""What the two measuring commands share: their flags, and how they measure, write and show."""

import logging
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

from pydantic import Field
from workflow_scripts.console.job import ending_cleanly

from tools.benchmarks.surroundings import write
from tools.benchmarks.table import Marks, insert, read_bench
from workflow_scripts.console.arguments import parse
from workflow_scripts.console.stage import USER_ERROR, NoSettings, limit_threads
from workflow_scripts.errors import InputError
from workflow_scripts.settings.base import Settings


class MeasuringFiles(Settings):
    """What is measured, and outputs."""

    output: Path = Field(description="file to write (JSON)")
    rounds: int = Field(ge=1, description="how often each pair is measured")
    threads: int = Field(os.cpu_count() or 1, ge=1, description="processor cores to use")
    table: Path | None = Field(
        None, description="measure nothing: show the Markdown tables of such a file"
    )
    page: Path | None = Field(
        None, description="with --table: page whose lines between the markers the tables replace"
    )


Files = TypeVar("Files", bound=MeasuringFiles)


@dataclass(frozen=True)
class MeasuringCommand(Generic[Files]):
    """A command that measures, or shows what it measured earlier."""

    program: str
    """As `python -m` calls it."""
    made_by: str
    """What users are told to run where there is no file to show."""
    description: str | None
    files: type[Files]
    measure: Callable[[Files], dict[str, Any]]
    """Raises InputError where the flags make no sense, before it measures anything."""
    tables: Callable[[dict[str, Any]], str]
    """What was written, as Markdown."""
    marks: Marks
    """Lines of a page between which the tables stand."""

    def run(self, argv: Sequence[str] | None = None) -> int:
        """Exit code: 0, or 2 for a user's mistake."""
        try:
            files, _ = parse(
                self.description, self.files, NoSettings, argv, f"python -m {self.program}"
            )
            logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", force=True)
            limit_threads(files.threads)
            with ending_cleanly():
                self._work(files)
        except InputError as error:
            print(f"{self.program}: error: {error}", file=sys.stderr)
            return USER_ERROR
        return 0

    def _work(self, files: Files) -> None:
        if files.table is not None:
            text = self.tables(read_bench(files.table, self.made_by))
            if files.page is None:
                print(text)
            else:
                insert(text, files.page, self.marks)
            return
        if files.page is not None:
            raise InputError("--page: needs --table, the file that the page is to show")
        print(self.tables(write(files.output, self.measure(files), files.threads)))
