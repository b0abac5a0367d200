"""Write the resolved configuration of a run beside its results (YAML), every default spelt out."""

import json
import sys
from collections.abc import Sequence
from pathlib import Path

import yaml
from pydantic import Field

from workflow_scripts.console.stage import NoSettings, StageFiles, run_stage
from workflow_scripts.errors import InputError
from workflow_scripts.storage.atomic import atomic_path


class Files(StageFiles):
    """Inputs and outputs."""

    configuration: str = Field(description="the whole configuration, as JSON")
    output: Path = Field(description="file to write (YAML)")


def work(files: Files, settings: NoSettings) -> None:
    """Write the file."""
    try:
        values = json.loads(files.configuration)
    except ValueError as error:
        raise InputError(f"--configuration: not JSON ({error})") from None
    with atomic_path(files.output) as temporary:
        text = yaml.safe_dump(values, sort_keys=False, allow_unicode=True)
        temporary.write_text(text, encoding="utf-8")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the stage; returns its exit code."""
    return run_stage("record_configuration", __doc__, Files, NoSettings, work, argv)


if __name__ == "__main__":
    sys.exit(main())
