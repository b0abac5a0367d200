"""Choose thresholds for one method's activations by a rule that sees no mask (`auto`).

Reads the index's image labels, all training shards of activations and, for rules that need them, many of
the images. Writes a JSON file: `pseudo_mask`, the background threshold of the pseudo-masks, and the `rule`
that chose it; `seed_foreground` and `seed_background`, the two thresholds of the seeds; and for
comparison the `candidates` of all rules that were asked. A rule may add thresholds of single `classes`, by
name, and of single training `images`, by id, for the pseudo-masks. Thresholds are activations, 0…1.
"""

import logging
import sys
from collections.abc import Sequence
from pathlib import Path

from pydantic import Field

from workflow_scripts.console.stage import PluggedFiles, run_stage
from workflow_scripts.datasets.index import read_index
from workflow_scripts.doors.threshold_rule import FALLBACK, THRESHOLD_RULES, ThresholdSettings
from workflow_scripts.doors.usage import code_of, uses
from workflow_scripts.evaluation.activation_statistics import (
    candidates_of,
    refinements_of,
    statistics_of,
)
from workflow_scripts.storage.chosen_thresholds import ChosenThresholds

logger = logging.getLogger(__name__)


class Files(PluggedFiles):
    """Inputs and outputs."""

    index: Path = Field(description="index.csv of the dataset")
    activations: tuple[Path, ...] = Field(
        min_length=1, description="shards of activations of the training images (safetensors)"
    )
    output: Path = Field(description="file of thresholds to write (JSON)")
    tables: bool = Field(
        True,
        description="also thresholds of single classes and images, where the rule has such; seeds use none",
    )


def work(files: Files, settings: ThresholdSettings) -> None:
    """Write the thresholds."""
    index = read_index(files.index)
    statistics = statistics_of(index, files.activations, settings)
    candidates = candidates_of(settings.rules, statistics, index, files.activations, settings)
    names = {}
    for name in (settings.rule, settings.seed_rule):
        names[name] = name if name in candidates else FALLBACK
        if names[name] != name:
            reason = THRESHOLD_RULES.get(name).finds_none
            logger.warning("%s: %s: taken is that of %s", name, reason, FALLBACK)
    rule, seed_rule = names[settings.rule], names[settings.seed_rule]
    chosen = ChosenThresholds.around(
        candidates[rule], rule, settings.seed_margin, candidates, candidates[seed_rule]
    )
    if files.tables:
        tables = refinements_of(rule, candidates[rule], statistics, index, files.activations)
        chosen = chosen.with_tables(*tables)
    chosen.write(files.output)
    for what, table in (("classes", chosen.classes), ("images", chosen.images)):
        if table:
            low, high = min(table.values()), max(table.values())
            logger.info(
                "%d %s have thresholds of their own: %.3f to %.3f", len(table), what, low, high
            )
    logger.info(
        "pseudo-masks at %.3f (%s), seeds at %.3f and %.3f (%s); candidates: %s",
        chosen.pseudo_mask, rule, chosen.seed_foreground, chosen.seed_background, seed_rule,
        ", ".join(f"{name} {value:.3f}" for name, value in chosen.candidates.items()),
    )  # fmt: skip


def main(argv: Sequence[str] | None = None) -> int:
    """Run the stage; returns its exit code."""
    return run_stage(
        "choose_thresholds", __doc__, Files, ThresholdSettings, work, argv,
        lambda settings: code_of("choose_thresholds", uses(settings)),
    )  # fmt: skip


if __name__ == "__main__":
    sys.exit(main())
