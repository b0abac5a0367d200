"""Choose thresholds for one method's activations by a rule that sees no mask (`auto`).

Reads the index's image labels, all training shards of activations and, for the rule `colours`, many of
the images. Writes a JSON file: `pseudo_mask`, the background threshold of the pseudo-masks, and the `rule`
that chose it; `seed_foreground` and `seed_background`, the two thresholds of the seeds; and for
comparison the `candidates` of all rules. Thresholds are activations, 0…1.
"""

import logging
import sys
from collections.abc import Sequence
from pathlib import Path

from pydantic import Field

from workflow_scripts.console.progress import progress
from workflow_scripts.console.stage import StageFiles, run_stage
from workflow_scripts.datasets.index import read_index
from workflow_scripts.evaluation.threshold_choice import (
    count_images,
    gather,
    gather_colours,
    label_free_candidates,
    read_activations,
    sample_activations,
)
from workflow_scripts.evaluation.threshold_sweep import even_thresholds
from workflow_scripts.settings.thresholds import ThresholdSettings
from workflow_scripts.storage.chosen_thresholds import ChosenThresholds

logger = logging.getLogger(__name__)

COLOURS, FALLBACK = "colours", "consensus"


class Files(StageFiles):
    """Inputs and outputs."""

    index: Path = Field(description="index.csv of the dataset")
    activations: tuple[Path, ...] = Field(
        min_length=1, description="shards of activations of the training images (safetensors)"
    )
    output: Path = Field(description="file of thresholds to write (JSON)")


def work(files: Files, settings: ThresholdSettings) -> None:
    """Write the thresholds."""
    index = read_index(files.index)
    images = progress(
        read_activations(index, files.activations), description="choose_thresholds: count"
    )
    statistics = gather(images, len(index.classes), even_thresholds(settings.step))
    separation = None
    if COLOURS in (settings.rule, settings.seed_rule):
        sample = sample_activations(index, files.activations, settings.sample)
        seen = min(settings.sample, count_images(files.activations))
        shown = progress(sample, total=seen, description="choose_thresholds: colours")
        separation = gather_colours(shown, statistics.thresholds)
    candidates = label_free_candidates(statistics, separation)
    rule, seed_rule = (
        name if name in candidates else FALLBACK for name in (settings.rule, settings.seed_rule)
    )
    if (rule, seed_rule) != (settings.rule, settings.seed_rule):
        logger.warning(
            "no threshold separates the colours of the images: taken is that of %s", FALLBACK
        )
    chosen = ChosenThresholds.around(
        candidates[rule], rule, settings.seed_margin, candidates, candidates[seed_rule]
    )
    chosen.write(files.output)
    logger.info(
        "pseudo-masks at %.3f (%s), seeds at %.3f and %.3f (%s); candidates: %s",
        chosen.pseudo_mask, rule, chosen.seed_foreground, chosen.seed_background, seed_rule,
        ", ".join(f"{name} {value:.3f}" for name, value in chosen.candidates.items()),
    )  # fmt: skip


def main(argv: Sequence[str] | None = None) -> int:
    """Run the stage; returns its exit code."""
    return run_stage("choose_thresholds", __doc__, Files, ThresholdSettings, work, argv)


if __name__ == "__main__":
    sys.exit(main())
