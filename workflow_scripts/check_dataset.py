"""Check a dataset without training: images, table, masks, and whether they agree.

The first argument is the kind of dataset, the others are its settings, as for `prepare_dataset`:

  python -m workflow_scripts.check_dataset folder --root data/folder

Reads all images and masks as the workflow does, prints how many images, labels and masks there are and how
far they agree, and what is left out. Writes nothing; ends with exit code 2 where the dataset cannot be used.
"""

import json
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from workflow_scripts.console.progress import TaskBars
from workflow_scripts.console.stage import PluggedFiles, run_entry_stage, run_stage
from workflow_scripts.datasets.consistency import NAME, table
from workflow_scripts.doors.dataset import DATASETS, DatasetSettings


class Files(PluggedFiles):
    """Nothing beside what every stage takes."""


def run(entry: type[DatasetSettings], arguments: Sequence[str]) -> int:
    """Check a dataset of one kind; returns the exit code."""

    def work(files: Files, settings: DatasetSettings) -> None:
        with tempfile.TemporaryDirectory() as folder, TaskBars() as bars:
            output = Path(folder) / "dataset"
            settings.prepare(output, files.threads, bars)
            counts = output / NAME
            found = json.loads(counts.read_text(encoding="utf-8")) if counts.is_file() else None
        if found is not None:
            print(table(found))
            for warning in found["warnings"]:
                print(f"warning: {warning}")
        print("the dataset can be used")

    return run_stage(f"check_dataset {entry.name}", __doc__, Files, entry, work, arguments)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit code."""
    return run_entry_stage("check_dataset", __doc__, DATASETS, run, argv)


if __name__ == "__main__":
    sys.exit(main())
