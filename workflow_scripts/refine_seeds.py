"""Make confident seeds of one shard: two thresholds, each followed by a refinement.

A pixel gets a class where the foreground pass names one, background where both passes say so, and is
ignored (255) elsewhere. Writes a zip shard of indexed PNG masks, and beside it a JSON file that counts
background, foreground and ignored pixels.
"""

import logging
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from pydantic import Field

from workflow_scripts.console.progress import progress
from workflow_scripts.console.shards import ShardFiles
from workflow_scripts.console.stage import run_stage
from workflow_scripts.datasets.images import read_image
from workflow_scripts.datasets.index import ImageRecord
from workflow_scripts.datasets.parallel import in_threads
from workflow_scripts.refinement.thresholding import (
    confident_seed,
    refined_labels,
    seed_labels,
)
from workflow_scripts.settings.refinement import SeedSettings
from workflow_scripts.storage.activations import ActivationReader
from workflow_scripts.storage.chosen_thresholds import seed_thresholds
from workflow_scripts.storage.masks import MaskWriter, SeedPixels

logger = logging.getLogger(__name__)

DEGENERATE = 0.03


class Files(ShardFiles):
    """Inputs and outputs."""

    activations: Path = Field(description="shard of activations (safetensors)")
    thresholds: Path | None = Field(
        None, description="file of choose_thresholds or validate_thresholds, for thresholds by name"
    )
    output: Path = Field(description="zip shard of seeds to write")
    composition: Path = Field(description="JSON file to write: pixels of each kind")

    @property
    def beside(self) -> tuple[Path, ...]:
        """Pixels of each kind."""
        return (self.composition,)


def warn_if_degenerate(
    shares: dict[str, float], thresholds: tuple[float, float], chosen_by: str | None
) -> None:
    """Say so where seeds hold next to nothing of one kind, which training cannot make up for.

    Args:
        shares: Share of the pixels of each kind.
        thresholds: Foreground and background threshold.
        chosen_by: What chose them, `auto` or `validation`; None where they were given.
    """
    origin = f", chosen by `{chosen_by}`; give a number" if chosen_by else ""
    advice = {
        "background": f"raise background_threshold (now {thresholds[1]}{origin})",
        "foreground": f"lower foreground_threshold (now {thresholds[0]}{origin})",
    }
    for kind, what in advice.items():
        if shares[kind] < DEGENERATE:
            logger.warning(
                "seeds are %.1f %% %s: a network can hardly learn from them; %s in refine_seeds",
                100 * shares[kind], kind, what,
            )  # fmt: skip


def work(files: Files, settings: SeedSettings) -> None:
    """Write the shard and its composition."""
    _, records = files.read()
    composition = SeedPixels()
    thresholds = seed_thresholds(settings, files.thresholds)
    with ActivationReader(files.activations) as reader, MaskWriter(files.output) as writer:

        def seed(record: ImageRecord) -> tuple[ImageRecord, np.ndarray]:
            activations = reader.read_full(record.id, record.height, record.width)
            image = read_image(record.path)
            foreground, background = refined_labels(image, activations, thresholds, settings)
            return record, seed_labels(confident_seed(foreground, background), record.labels)

        seeds = in_threads(seed, records, files.threads)
        title = f"refine_seeds {files.split} {files.shard}"
        for record, mask in progress(seeds, total=len(records), description=title):
            writer.write(record.id, mask)
            composition.add(mask)
    logger.info("seeds: %s", composition)
    if records:
        warn_if_degenerate(composition.shares(), thresholds, settings.chosen_by)
    composition.write(files.composition)


def main(argv: Sequence[str] | None = None) -> int:
    """Command line of the stage."""
    return run_stage("refine_seeds", __doc__, Files, SeedSettings, work, argv)


if __name__ == "__main__":
    sys.exit(main())
