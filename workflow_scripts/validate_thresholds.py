"""Choose the threshold of best mIoU on a small validation split that has masks (`validation`).

Reads the activations and masks of that split alone. What is reported for the split itself is an
oracle's figure; the workflow refuses to report on it. Writes the same JSON file as
choose_thresholds, with the rule `validation`.
"""

import logging
import sys
from collections.abc import Sequence
from pathlib import Path

from pydantic import Field

from workflow_scripts.console.progress import progress
from workflow_scripts.console.stage import StageFiles, run_stage
from workflow_scripts.datasets.index import read_index
from workflow_scripts.errors import InputError
from workflow_scripts.evaluation.activation_statistics import read_activations
from workflow_scripts.evaluation.threshold_sweep import ThresholdSweep, even_thresholds
from workflow_scripts.evaluation.truth import read_truth
from workflow_scripts.settings.refinement import VALIDATION, ValidationSettings
from workflow_scripts.storage.chosen_thresholds import ChosenThresholds

logger = logging.getLogger(__name__)


class Files(StageFiles):
    """Inputs and outputs."""

    index: Path = Field(description="index.csv of the dataset")
    activations: tuple[Path, ...] = Field(
        min_length=1, description="shards of activations of the validation split (safetensors)"
    )
    output: Path = Field(description="file of thresholds to write (JSON)")


def work(files: Files, settings: ValidationSettings) -> None:
    """Write the thresholds."""
    index = read_index(files.index)
    sweep = ThresholdSweep(len(index.classes), even_thresholds(settings.step))
    images = read_activations(index, files.activations)
    for record, activation in progress(images, description="validate_thresholds"):
        try:
            sweep.update(record.id, activation, record.labels, read_truth(record))
        except ValueError as error:
            raise InputError(f"{record.mask}: {error}; correct the mask") from error
    curve = sweep.curve()
    best = float(curve.thresholds[curve.best])
    chosen = ChosenThresholds.around(best, VALIDATION, settings.seed_margin, {VALIDATION: best})
    chosen.write(files.output)
    logger.info(
        "pseudo-masks at %.3f, seeds at %.3f and %.3f: mIoU %.2f on the %d images that chose it",
        chosen.pseudo_mask, chosen.seed_foreground, chosen.seed_background,
        100 * curve.miou[curve.best], len(sweep.images().ids),
    )  # fmt: skip


def main(argv: Sequence[str] | None = None) -> int:
    """Run the stage; returns its exit code."""
    return run_stage("validate_thresholds", __doc__, Files, ValidationSettings, work, argv)


if __name__ == "__main__":
    sys.exit(main())
