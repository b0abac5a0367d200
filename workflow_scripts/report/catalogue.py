"""What the report consists of: names, titles, categories and captions of its figures and pages.

The Snakefile asks here which files a run will have, at every start: nothing heavy is imported.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

REFERENCE = "full"
_CAPTIONS = Path(__file__).parent / "captions"
_ASSETS = Path(__file__).parent


class Item(NamedTuple):
    """One entry of the report."""

    file: str
    title: str
    category: str
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
            "labels": {"figure": self.title},
        }


FIGURES = (
    Item("sweep_curves.svg", "mIoU at every threshold", "Thresholds", "activations and masks"),
    Item("plateau.svg", "Width of the plateau", "Thresholds", "activations and masks"),
    Item(
        "segmentation_by_threshold.svg", "Segmentation against threshold", "Thresholds", "masks",
        several_thresholds=True,
    ),
    Item(
        "image_thresholds.svg", "Best threshold of each image", "Thresholds",
        "activations and masks",
    ),
    Item(
        "activation_histograms.svg", "Activation in and out of objects", "Activations",
        "activations and masks",
    ),
    Item("seed_composition.svg", "Composition of the seeds", "Seeds", "activations"),
    Item("per_class_iou.svg", "IoU by class", "Segmentation", "masks"),
    Item("confusion.svg", "Confusion of classes", "Segmentation", "masks"),
    Item("error_kinds.svg", "Kinds of errors", "Segmentation", "masks"),
    Item("training_curves.svg", "Training curves", "Training and cost"),
    Item("wall_time.svg", "Time and memory by stage", "Training and cost"),
)  # fmt: skip
PAGES = (
    Item("front_page.html", "Does this run support the claim?", "About this run"),
    Item("summary_table.html", "All figures", "About this run"),
    Item("provenance.html", "Provenance", "About this run"),
)
GALLERY = Item("gallery.html", "Gallery", "Images")
EXPLORER = Item("explorer.html", "Threshold explorer", "Images")
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
