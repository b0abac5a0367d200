"""What the report consists of: names, titles, categories and captions of its figures and pages.

The Snakefile asks here which files a run will have, at every start: nothing heavy is imported.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

REFERENCE = "full"
_RUN, _IMAGES, _THRESHOLDS = "1 About this run", "2 Images", "3 Thresholds"
_ACTIVATIONS, _NETWORKS, _COST = "4 Activations and seeds", "5 Segmentation", "6 Training and cost"
_CAPTIONS = Path(__file__).parent / "captions"
_ASSETS = Path(__file__).parent


class Item(NamedTuple):
    """One entry of the report."""

    file: str
    title: str
    category: str
    """Its heading; Snakemake sorts by it, so that a number keeps the order of reading."""
    needs: Literal["nothing", "activations", "masks", "activations and masks"] = "nothing"
    """What a run must have for the entry to make sense."""
    several_thresholds: bool = False
    """Whether it needs pseudo-masks at more than one threshold."""

    @property
    def caption(self) -> Path:
        """File of the caption (reStructuredText)."""
        return _CAPTIONS / f"{Path(self.file).stem}.rst"

    @property
    def marks(self) -> dict[str, Any]:
        """Caption, category and labels, as Snakemake's `report` takes them."""
        return {
            "caption": str(self.caption),
            "category": self.category,
            "labels": {"item": self.title},
        }


FIGURES = (
    Item("sweep_curves.svg", "mIoU at every threshold", _THRESHOLDS, "activations and masks"),
    Item("plateau.svg", "Width of the plateau", _THRESHOLDS, "activations and masks"),
    Item(
        "segmentation_by_threshold.svg", "Segmentation against threshold", _THRESHOLDS, "masks",
        several_thresholds=True,
    ),
    Item(
        "image_thresholds.svg", "Best threshold of each image", _THRESHOLDS,
        "activations and masks",
    ),
    Item(
        "activation_histograms.svg", "Activation in and out of objects", _ACTIVATIONS,
        "activations and masks",
    ),
    Item("seed_composition.svg", "Composition of the seeds", _ACTIVATIONS, "activations"),
    Item("per_class_iou.svg", "IoU by class", _NETWORKS, "masks"),
    Item("confusion.svg", "Confusion of classes", _NETWORKS, "masks"),
    Item("error_kinds.svg", "Kinds of errors", _NETWORKS, "masks"),
    Item("training_curves.svg", "Training curves", _COST),
    Item("wall_time.svg", "Time and memory by stage", _COST),
)  # fmt: skip
PAGES = (
    Item("front_page.html", "Claim, numbers and all plots", _RUN),
    Item("summary_table.html", "Every figure in a table", _RUN),
    Item("provenance.html", "Provenance", _RUN),
)
GALLERY = Item("gallery.html", "Gallery", _IMAGES)
EXPLORER = Item("explorer.html", "Threshold explorer", _IMAGES)
CAPTIONS = tuple(sorted(_CAPTIONS.glob("*.rst")))
CALIBRATION = (_ASSETS.parent / "judging" / "calibration.json",)
FRAMES = _ASSETS / "frames.js"
GALLERY_ASSETS = tuple(_ASSETS / "gallery" / f"gallery.{kind}" for kind in ("html", "css", "js"))
EXPLORER_ASSETS = tuple(
    _ASSETS / "explorer" / name
    for name in ("explorer.html", "explorer.css", "masks.js", "chart.js", "explorer.js")
)


def planned_items(
    with_masks: bool, methods: Sequence[str], thresholds: Sequence[object]
) -> list[Item]:
    """Return the figures that a run will have the data for.

    Args:
        with_masks: Whether the dataset has ground truth.
        methods: Methods of the run; the fully supervised reference has no activations.
        thresholds: Thresholds of the pseudo-masks, or their sources: only how many matters.
    """
    present = {
        "nothing": True,
        "masks": with_masks,
        "activations": any(method != REFERENCE for method in methods),
    }
    return [
        item
        for item in FIGURES
        if all(present[need] for need in item.needs.split(" and "))
        and (len(thresholds) > 1 or not item.several_thresholds)
    ]


def planned_figures(
    with_masks: bool, methods: Sequence[str], thresholds: Sequence[object]
) -> list[str]:
    """Return the file names of `planned_items`."""
    return [item.file for item in planned_items(with_masks, methods, thresholds)]
