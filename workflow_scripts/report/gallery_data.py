"""What the gallery embeds: for each image its pictures, method by method."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from workflow_scripts.datasets.images import read_image
from workflow_scripts.datasets.index import ImageRecord
from workflow_scripts.evaluation.run_results import TRUTH, RunFolder
from workflow_scripts.evaluation.truth import read_truth
from workflow_scripts.report.catalogue import REFERENCE
from workflow_scripts.report.names import method_name
from workflow_scripts.report.pictures import heat_over, mask_uri, photo_uri
from workflow_scripts.storage.activations import ActivationReader
from workflow_scripts.storage.masks import MaskReader

Picture = dict[str, str]


@dataclass(frozen=True)
class MethodFiles:
    """The shards of one method and split, found when they are first asked for."""

    folder: RunFolder
    trial: int
    method: str
    source: str
    split: str

    def _shards(self, place: str, suffix: str, by_split: Mapping[str, Sequence[str]]) -> list[Path]:
        """Those that exist: the reference has no activations, for one."""
        folder = self.folder.path / str(self.trial) / self.method / place
        paths = [folder / (shard + suffix) for shard in by_split.get(self.split, ())]
        return [path for path in paths if path.exists()]

    @cached_property
    def activations(self) -> dict[str, ActivationReader]:
        """Reader of each image's activation."""
        readers = map(
            ActivationReader, self._shards("activations", ".safetensors", self.folder.shards)
        )
        return {image_id: reader for reader in readers for image_id in reader.ids}

    @cached_property
    def masks(self) -> dict[str, dict[str, MaskReader]]:
        """Readers of seeds, pseudo-masks and predictions, by image."""
        source = TRUTH if self.method == REFERENCE else self.source
        places = {
            "seeds": ("seeds", self.folder.shards),
            "pseudo-mask": (f"{source}/pseudo_masks", self.folder.pseudo_mask_shards),
            "prediction": (f"{source}/segmentation/predictions", self.folder.segmentation_shards),
        }
        return {
            kind: {
                i: reader
                for reader in map(MaskReader, self._shards(place, ".zip", shards))
                for i in reader.ids
            }
            for kind, (place, shards) in places.items()
        }


def method_row(
    files: MethodFiles, record: ImageRecord, image: np.ndarray, side: int, colours: Sequence[str]
) -> dict[str, Any] | None:
    """Return a method's pictures of an image; None where it has none."""
    name = method_name(files.method)
    pictures: list[Picture] = []
    if record.id in files.activations:
        reader = files.activations[record.id]
        activation = reader.read_full(record.id, record.height, record.width)
        strongest = activation.max(axis=0, initial=0.0)
        pictures.append(
            {"title": "activation", "uri": photo_uri(heat_over(image, strongest), side, 70)}
        )
    for kind, readers in files.masks.items():
        if record.id in readers:
            mask = readers[record.id].read(record.id)
            pictures.append({"title": kind, "uri": mask_uri(mask, side, colours)})
    return {"name": name, "pictures": pictures} if pictures else None


def image_entry(
    record: ImageRecord,
    methods: Sequence[MethodFiles],
    classes: Sequence[str],
    side: int,
    colours: Sequence[str],
) -> dict[str, Any]:
    """Return one image of the gallery; its ground truth where it has some."""
    image = read_image(record.path)
    first: list[Picture] = [{"title": "photo", "uri": photo_uri(image, side)}]
    if record.mask is not None:
        first.append({"title": "ground truth", "uri": mask_uri(read_truth(record), side, colours)})
    rows = [method_row(files, record, image, side, colours) for files in methods]
    return {
        "id": record.id,
        "split": record.split,
        "labels": [classes[label - 1] for label in record.labels],
        "rows": [{"name": "", "pictures": first}, *filter(None, rows)],
    }
