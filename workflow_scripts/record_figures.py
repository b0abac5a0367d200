"""Write what a segmentation network reached beside its weights (figures.json).

Reads its evaluations, one file a shard named `{split}-{number}.json`. IoU and accuracy are in percent;
how the network was tested (scales, mirror images, CRF) stands beside them.
"""

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import Field

from workflow_scripts.console.stage import StageFiles, run_stage
from workflow_scripts.evaluation.confusion import merge_evaluations
from workflow_scripts.settings.evaluation import EvaluateSegmentationSettings
from workflow_scripts.storage.atomic import atomic_path


class Files(StageFiles):
    """Inputs and outputs."""

    evaluations: tuple[Path, ...] = Field(
        min_length=1, description="evaluations of the network's predictions, one a shard (JSON)"
    )
    output: Path = Field(description="figures.json to write")


def figures(shards: Sequence[Path]) -> dict[str, Any]:
    """Return the figures of one split; classes that never occur are left out."""
    evaluation = merge_evaluations(shards)
    iou = 100 * evaluation.total.iou("wrong")
    names = ("background", *evaluation.classes)
    return {
        "images": len(evaluation.images),
        "miou": 100 * evaluation.total.mean_iou("wrong"),
        "pixel_accuracy": 100 * evaluation.total.pixel_accuracy("wrong"),
        "per_class": {
            name: float(value)
            for name, value in zip(names, iou, strict=True)
            if not np.isnan(value)
        },
    }


def work(files: Files, settings: EvaluateSegmentationSettings) -> None:
    """Write the file."""
    splits: dict[str, list[Path]] = {}
    for path in files.evaluations:
        splits.setdefault(path.stem.rpartition("-")[0], []).append(path)
    content = {
        "test": settings.model_dump(exclude=None if settings.refine else {"crf"}),
        "splits": {split: figures(shards) for split, shards in splits.items()},
    }
    with atomic_path(files.output) as temporary:
        text = json.dumps(content, ensure_ascii=False, indent=2)
        temporary.write_text(text + "\n", encoding="utf-8")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the stage; returns its exit code."""
    return run_stage("record_figures", __doc__, Files, EvaluateSegmentationSettings, work, argv)


if __name__ == "__main__":
    sys.exit(main())
