"""Compute the features of one shard's images, once for all trainings on a backbone that does not learn.

Writes a safetensors shard of half precision; storage/feature_shards.py says what is in it. Says how many
bytes an image takes, and stops before the first one if the disk has no room for the whole split.
"""

import logging
import shutil
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from pydantic import Field

from workflow_scripts.console.progress import progress
from workflow_scripts.console.shards import InferenceFiles
from workflow_scripts.console.stage import PluggedFiles, run_stage
from workflow_scripts.datasets.index import ImageRecord
from workflow_scripts.datasets.parallel import in_threads
from workflow_scripts.doors.usage import code_of, uses
from workflow_scripts.errors import InputError
from workflow_scripts.models.feature_maps import load_backbone
from workflow_scripts.models.feature_settings import CacheFeaturesSettings
from workflow_scripts.models.stored_features import about_features, feature_shape, features_of
from workflow_scripts.models.trained import ready_for_inference
from workflow_scripts.storage.atomic import written_so_far
from workflow_scripts.storage.feature_shards import feature_writer
from workflow_scripts.storage.shard_files import shard_names
from workflow_scripts.training.distributed import choose_device
from workflow_scripts.training.inference_pipeline import bytes_of, image_reader, written_behind
from workflow_scripts.training.precision import autocast, choose_dtype, set_arithmetic

logger = logging.getLogger(__name__)


class Files(InferenceFiles, PluggedFiles):
    """Inputs and outputs."""

    output: Path = Field(description="shard of features to write (safetensors)")


def code(settings: CacheFeaturesSettings) -> Mapping[str, str]:
    """Digests of the code that the stage runs."""
    return code_of("cache_features", uses(settings))


def check_room(folder: Path, shards: Sequence[str], needed: int, image: int) -> None:
    """See that a split's features, as far as they are not there, fit on the disk.

    What is there includes what other jobs, at work on other shards, have written so far.

    Args:
        folder: Where they go, perhaps beside those of other splits and what is left of an earlier cut.
        shards: Names of the split's shards.
        needed: Bytes of all of them.
        image: Bytes of an image's.

    Raises:
        InputError: They do not; says how much is missing and what makes them smaller.
    """
    there = sum(written_so_far(folder / f"{name}.safetensors") for name in shards)
    free = shutil.disk_usage(folder).free
    if needed - there > free:
        raise InputError(
            f"{folder}: features take {image:,} bytes an image, {needed / 1e9:.1f} GB for the whole split, "
            f"of which {there / 1e9:.1f} GB are there, and {free / 1e9:.1f} GB are free. Free some space "
            f"({folder.parent} may hold features of former settings), put `results` on another disk, or "
            "store less: `features: {mirror: false}`, a smaller `side`, fewer `scales`"
        )


def work(files: Files, settings: CacheFeaturesSettings) -> None:
    """Write the shard."""
    index, records = files.read()
    device = choose_device(files.device)
    backbone = load_backbone(settings.backbone)
    shape = feature_shape(backbone, settings.features)
    files.output.parent.mkdir(parents=True, exist_ok=True)
    shards = shard_names(files.split, files.shards)
    images = len(index.of_split(files.split))
    check_room(files.output.parent, shards, shape.bytes * images, shape.bytes)
    logger.info("%d images, %s bytes an image", len(records), f"{shape.bytes:,}")
    set_arithmetic(settings.precision)
    dtype = choose_dtype(settings.precision, settings.backbone.bfloat16_pays, device)
    network = ready_for_inference(backbone, device)
    about = about_features(settings.backbone.name, settings.features)
    ids = [record.id for record in records]
    read_image = image_reader(device)

    def read(record: ImageRecord) -> tuple[str, np.ndarray]:
        return record.id, read_image(record.path)

    loaded = in_threads(read, records, files.threads, bytes_of)
    title = f"features {files.split} {files.shard}"
    with (
        feature_writer(files.output, ids, shape, about) as writer,
        written_behind(writer.write) as write,
        autocast(dtype, device),
    ):
        for image_id, image in progress(loaded, total=len(records), description=title):
            write(image_id, features_of(image, network, shape, device))


def main(argv: Sequence[str] | None = None) -> int:
    """Command line of the stage."""
    return run_stage("cache_features", __doc__, Files, CacheFeaturesSettings, work, argv, code)


if __name__ == "__main__":
    sys.exit(main())
