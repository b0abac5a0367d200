"""Make the index of a dataset, the one table that all later stages read.

The first argument is the kind of dataset: demo, voc12, coco14, folder, or that of a plug-in.
`python -m workflow_scripts.prepare_dataset KIND --help` lists what each can be told.

Writes index.csv, classes.csv and dataset.json (how images, labels and masks agree) into a folder, and beside
them what the kind makes itself: the demo its images and masks, voc12 and coco14 masks converted to indexed
PNG. Images of the other kinds stay where they are.
"""

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from pydantic import Field

from workflow_scripts.console.progress import TaskBars
from workflow_scripts.console.stage import PluggedFiles, run_entry_stage, run_stage
from workflow_scripts.doors.dataset import DATASETS, DatasetSettings
from workflow_scripts.doors.usage import Use, code_of


class Files(PluggedFiles):
    """Outputs."""

    output: Path = Field(
        description="folder to write to: index.csv, classes.csv, dataset.json and what they name"
    )


def run(entry: type[DatasetSettings], arguments: Sequence[str]) -> int:
    """Run the stage for one kind of dataset; returns its exit code."""

    def code(settings: DatasetSettings) -> Mapping[str, str]:
        return code_of("prepare_dataset", [Use(DATASETS, entry.name)])

    def work(files: Files, settings: DatasetSettings) -> None:
        with TaskBars() as bars:
            settings.prepare(files.output, files.threads, bars)

    name = f"prepare_dataset {entry.name}"
    return run_stage(name, __doc__, Files, entry, work, arguments, code)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the stage; returns its exit code."""
    return run_entry_stage("prepare_dataset", __doc__, DATASETS, run, argv)


if __name__ == "__main__":
    sys.exit(main())
