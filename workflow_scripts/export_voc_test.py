"""Pack predictions for VOC 2012's test images as its evaluation server takes them.

Reads the index and shards of predictions (zip of indexed PNG) of its split `test`; writes a tar.gz with
one indexed PNG an image under results/VOC2012/Segmentation/comp6_test_cls (comp5_test_cls for methods
trained on VOC's own images alone). It is uploaded by hand at http://host.robots.ox.ac.uk:8080.
"""

import gzip
import io
import sys
import tarfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Literal

from pydantic import Field

from workflow_scripts.console.progress import progress
from workflow_scripts.console.stage import StageFiles, run_stage
from workflow_scripts.datasets.index import ImageRecord, Index, read_index
from workflow_scripts.errors import InputError
from workflow_scripts.settings.base import Settings
from workflow_scripts.storage.atomic import atomic_path
from workflow_scripts.storage.masks import MaskReader, encode_mask

VOC_CLASSES = 20


class Files(StageFiles):
    """Inputs and outputs."""

    index: Path = Field(description="index.csv of the dataset, with a split `test`")
    predictions: tuple[Path, ...] = Field(
        min_length=1, description="all shards of predictions of that split (zip of indexed PNG)"
    )
    out: Path = Field(description="archive to write (.tar.gz)")


class ExportSettings(Settings):
    """What is exported, and for which competition."""

    split: str = Field("test", description="Split of the index that the predictions belong to.")
    competition: Literal["comp5", "comp6"] = Field(
        "comp6",
        description=(
            "comp6 allows any training data, ImageNet weights and SBD included; comp5 VOC's alone."
        ),
    )


def export(
    index: Index, predictions: Sequence[Path], out: Path, split: str, competition: str
) -> None:
    """Write the archive, images in the order of the index; equal predictions give equal bytes.

    Raises:
        InputError: A prediction is missing, there twice, of another size than its image, or holds a
            value that is neither background nor one of VOC's classes.
    """
    if len(index.classes) != VOC_CLASSES:
        raise InputError(
            f"{index.path}: {len(index.classes)} classes; VOC's server evaluates {VOC_CLASSES}. Give the"
            " index of VOC 2012."
        )
    records = index.of_split(split)
    folder = f"results/VOC2012/Segmentation/{competition}_{split}_cls"
    with ExitStack() as stack:
        shard_of = _shards(stack, predictions)
        missing = [record.id for record in records if record.id not in shard_of]
        if missing:
            raise InputError(
                f"{len(missing)} of {len(records)} images of split {split!r} have no prediction,"
                f" for instance {missing[0]!r}. Give all shards of that split."
            )
        tar = stack.enter_context(_new_archive(out))
        for record in progress(records, total=len(records), description="export"):
            data = _prediction(shard_of[record.id], record)
            entry = tarfile.TarInfo(f"{folder}/{record.id}.png")
            entry.size = len(data)
            tar.addfile(entry, io.BytesIO(data))


def _shards(stack: ExitStack, predictions: Sequence[Path]) -> dict[str, MaskReader]:
    """Open all shards; return the one that holds an image, by the image's id."""
    shard_of: dict[str, MaskReader] = {}
    for path in predictions:
        reader = stack.enter_context(MaskReader(path))
        for image_id in reader.ids:
            if image_id in shard_of:
                raise InputError(
                    f"{path}: image {image_id!r} is in {shard_of[image_id].path} already; give each"
                    " shard once"
                )
            shard_of[image_id] = reader
    return shard_of


@contextmanager
def _new_archive(out: Path) -> Iterator[tarfile.TarFile]:
    with (
        atomic_path(out) as temporary,
        temporary.open("wb") as stream,
        # Name and time in gzip's header would make each archive another one.
        gzip.GzipFile(filename="", mode="wb", compresslevel=6, fileobj=stream, mtime=0) as packed,
        tarfile.open(fileobj=packed, mode="w", format=tarfile.USTAR_FORMAT) as tar,
    ):
        yield tar


def _prediction(reader: MaskReader, record: ImageRecord) -> bytes:
    """Return an image's prediction as an indexed PNG, after checking it."""
    mask = reader.read(record.id)
    where = f"{reader.path}, image {record.id!r}"
    if mask.shape != (record.height, record.width):
        raise InputError(
            f"{where}: the prediction has {mask.shape[1]}×{mask.shape[0]} pixels, the image"
            f" {record.width}×{record.height}; the server refuses other sizes. Make them anew."
        )
    if mask.max(initial=0) > VOC_CLASSES:
        raise InputError(
            f"{where}: value {mask.max()} in the prediction; the server takes 0 to {VOC_CLASSES}"
            " (255 means ignored). Give predictions, not seeds."
        )
    return encode_mask(mask)


def work(files: Files, settings: ExportSettings) -> None:
    """Export one set of predictions."""
    export(
        read_index(files.index), files.predictions, files.out, settings.split, settings.competition
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Run the stage; returns its exit code."""
    return run_stage("export_voc_test", __doc__, Files, ExportSettings, work, argv)


if __name__ == "__main__":
    sys.exit(main())
