"""Render the report of a finished run: one self-contained HTML page, by Snakemake.

Asks Snakemake, with the run's Snakefile and resolved configuration, for the report of what a target has
made. Long pages among its items get addresses that browsers accept in a frame.
"""

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from pydantic import Field

from workflow_scripts.console.stage import NoSettings, StageFiles, run_stage
from workflow_scripts.errors import InputError
from workflow_scripts.report.catalogue import FRAMES
from workflow_scripts.storage.atomic import atomic_path

_END = "</body>"
_SAID = 3000


class Files(StageFiles):
    """Inputs and outputs."""

    snakefile: Path = Field(description="Snakefile of the workflow")
    configuration: Path = Field(description="resolved configuration of the run (YAML)")
    target: str = Field("report_items", description="rule whose inputs are the report's items")
    output: Path = Field(description="page to write (HTML)")


def work(files: Files, settings: NoSettings) -> None:
    """Write the page."""
    with atomic_path(files.output) as temporary:
        # Another Snakemake has locked the folder: the one whose job this is.
        command = [
            sys.executable, "-m", "snakemake", files.target, "--report", str(temporary),
            "--nolock", "--quiet", "--snakefile", str(files.snakefile),
            "--configfile", str(files.configuration),
        ]  # fmt: skip
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode or not temporary.exists():
            raise InputError(
                f"{files.output}: Snakemake did not render the report:\n{done.stderr[-_SAID:]}"
            )
        page = temporary.read_text(encoding="utf-8")
        temporary.write_text(framed(page), encoding="utf-8")


def framed(page: str) -> str:
    """Return Snakemake's report with a script that lets long pages open in its frame."""
    body, end, rest = page.rpartition(_END)
    script = FRAMES.read_text(encoding="utf-8")
    return f"{body}<script>\n{script}</script>\n{end}{rest}"


def main(argv: Sequence[str] | None = None) -> int:
    """Run the stage; returns its exit code."""
    return run_stage("render_report", __doc__, Files, NoSettings, work, argv)


if __name__ == "__main__":
    sys.exit(main())
