"""Write the report's pages of words and tables: front page, table of all figures, provenance.

Reads summary.json and differences.csv of the run, its resolved configuration (YAML), the counts of images
beside its index and its plots; writes three self-contained HTML pages. The front page says whether the run
supports the claim, from its numbers, and shows the plots.
"""

import sys
from collections.abc import Sequence
from pathlib import Path

import yaml
from pydantic import Field

from workflow_scripts.console.stage import NoSettings, StageFiles, run_stage
from workflow_scripts.datasets.consistency import read_survey
from workflow_scripts.errors import InputError
from workflow_scripts.report.judged_table import judged_part, read_judged
from workflow_scripts.report.pages import front_page, summary_table
from workflow_scripts.report.provenance import provenance_page
from workflow_scripts.report.run_data import evaluated_split, read_summary, read_table
from workflow_scripts.settings.base import validate
from workflow_scripts.settings.imports import CheckpointSettings
from workflow_scripts.storage.atomic import atomic_path


class Files(StageFiles):
    """Inputs and outputs."""

    summary: Path = Field(description="summary.json of the run")
    differences: Path = Field(description="differences.csv of the run")
    configuration: Path = Field(description="resolved configuration (YAML), shown as it is")
    index: Path = Field(
        description="index.csv; dataset.json beside it has the counts, where there is one"
    )
    figures: tuple[Path, ...] = Field((), description="plots (SVG) for the front page")
    judged: tuple[Path, ...] = Field((), description="what judge wrote of the run's pseudo-masks")
    judged_split: str | None = Field(None, description="the split that they are of")
    trials: tuple[int, ...] = Field((), description="numbers of the trials")
    seeds: tuple[int, ...] = Field((), description="random seed of each trial, in their order")
    front_page: Path = Field(description="front page to write (HTML)")
    summary_table: Path = Field(description="table of all figures to write (HTML)")
    provenance: Path = Field(description="page of provenance to write (HTML)")

    @property
    def owned(self) -> Path:
        """The output that only one job may write at a time."""
        return self.front_page


def work(files: Files, settings: NoSettings) -> None:
    """Write the pages."""
    summary = read_summary(files.summary)
    if len(files.seeds) != len(files.trials):
        raise InputError(f"{len(files.seeds)} seeds for {len(files.trials)} trials; give one each")
    try:
        configuration = files.configuration.read_text(encoding="utf-8")
        given = (yaml.safe_load(configuration) or {}).get("checkpoints") or {}
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise InputError(f"{files.configuration}: not readable ({error})") from error
    seeds = dict(zip(files.trials, files.seeds, strict=True))
    imported = validate(CheckpointSettings, given, str(files.configuration)).files
    code = Path(__file__).resolve().parent
    survey = read_survey(files.index)
    judged = [
        part
        for path in files.judged
        for part in judged_part(read_judged(path), summary, files.judged_split or "")
    ]
    pages = {
        files.front_page: front_page(
            summary,
            read_table(files.differences),
            evaluated_split(summary),
            files.figures,
            survey,
            judged,
        ),
        files.summary_table: summary_table(summary),
        files.provenance: provenance_page(summary, configuration, seeds, imported, code, survey),
    }
    for path, text in pages.items():
        with atomic_path(path) as temporary:
            temporary.write_text(text, encoding="utf-8")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the stage; returns its exit code."""
    return run_stage("make_pages", __doc__, Files, NoSettings, work, argv)


if __name__ == "__main__":
    sys.exit(main())
