"""Draw the figures of a run as vector graphics.

Reads the run's summary and curves, the tables of its trainings, and below its folder the threshold
sweeps and evaluations of the given trials, methods, sources of pseudo-masks and shards; writes SVG
files. A figure whose
data a run cannot have (no masks, one threshold) is not drawn unless it is asked for by name.
"""

import logging
import sys
from collections.abc import Sequence
from pathlib import Path

from pydantic import Field

from workflow_scripts.console.run_files import MeasuredRunFiles
from workflow_scripts.console.stage import NoSettings, run_stage
from workflow_scripts.errors import InputError
from workflow_scripts.report import network_figures, threshold_figures
from workflow_scripts.report.catalogue import planned_figures
from workflow_scripts.report.figure_style import fonts_for
from workflow_scripts.report.run_data import Draw, RunData, evaluated_split

logger = logging.getLogger(__name__)

DRAW: dict[str, Draw] = {
    "sweep_curves.svg": threshold_figures.sweep_curves,
    "plateau.svg": threshold_figures.plateau,
    "segmentation_by_threshold.svg": threshold_figures.segmentation_by_threshold,
    "image_thresholds.svg": threshold_figures.image_thresholds,
    "activation_histograms.svg": threshold_figures.activation_histograms,
    "seed_composition.svg": network_figures.seed_composition,
    "per_class_iou.svg": network_figures.per_class_iou,
    "confusion.svg": network_figures.confusion,
    "error_kinds.svg": network_figures.error_kinds,
    "training_curves.svg": network_figures.training_curves,
    "wall_time.svg": network_figures.wall_time,
}


class Files(MeasuredRunFiles):
    """Inputs and outputs."""

    summary: Path = Field(description="summary.json of the run")
    curves: Path = Field(description="curves.csv of the run")
    trials: tuple[int, ...] = Field(min_length=1, description="numbers of the trials")
    sources: tuple[str, ...] = Field(
        min_length=1, description="sources of pseudo-masks, t0.50 …; the first is shown first"
    )
    histories: tuple[Path, ...] = Field(
        (), description="tables of the trainings, training.csv, below the run's folder"
    )
    output: Path = Field(description="folder to write the figures to")
    figures: tuple[str, ...] = Field(
        (), description="names of the figures; none given: all that such a run can have"
    )


def work(files: Files, settings: NoSettings) -> None:
    """Draw the figures."""
    run = RunData(
        files.folder,
        files.trials,
        files.methods,
        files.sources,
        files.summary,
        files.curves,
        files.costs,
        files.histories,
    )
    with_masks = evaluated_split(run.summary) is not None
    with fonts_for(run.summary["classes"]):
        for name in files.figures or planned_figures(with_masks, files.methods, files.sources):
            if name not in DRAW:
                raise InputError(f"figure {name!r}: unknown; known are {', '.join(DRAW)}")
            DRAW[name](run, files.output / name)
            logger.info("%s", files.output / name)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the stage; returns its exit code."""
    return run_stage("plot_figures", __doc__, Files, NoSettings, work, argv)


if __name__ == "__main__":
    sys.exit(main())
