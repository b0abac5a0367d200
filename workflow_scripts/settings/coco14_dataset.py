"""Settings of MS COCO 2014."""

from typing import Literal

from pydantic import Field

from workflow_scripts.settings.base import Settings
from workflow_scripts.settings.downloads import (
    ADDRESS,
    CHECKSUM,
    CHECKSUM_PATTERN,
    ArchiveSettings,
    DownloadSettings,
)


class TrainImagesArchive(ArchiveSettings):
    """train2014.zip (13 GB)."""

    address: str = Field(
        default="http://images.cocodataset.org/zips/train2014.zip",
        min_length=1,
        description=ADDRESS,
    )
    checksum: str = Field(
        default="md5:0da8c0bd3d6becc4dcb32757491aca88",
        pattern=CHECKSUM_PATTERN,
        description=CHECKSUM,
    )


class ValImagesArchive(ArchiveSettings):
    """val2014.zip (6 GB)."""

    address: str = Field(
        default="http://images.cocodataset.org/zips/val2014.zip", min_length=1, description=ADDRESS
    )
    checksum: str = Field(
        default="md5:a3d79f5ed8d289b7a7554ce06a5782b3",
        pattern=CHECKSUM_PATTERN,
        description=CHECKSUM,
    )


class AnnotationsArchive(ArchiveSettings):
    """annotations_trainval2014.zip (241 MB)."""

    address: str = Field(
        default="http://images.cocodataset.org/annotations/annotations_trainval2014.zip",
        min_length=1,
        description=ADDRESS,
    )
    checksum: str = Field(
        default="md5:0a379cfc70b0e71301e0f377548639bd",
        pattern=CHECKSUM_PATTERN,
        description=CHECKSUM,
    )


class Coco14DatasetSettings(Settings):
    """MS COCO 2014: 80 classes; splits `train` (82,783 images) and `val` (40,504)."""

    kind: Literal["coco14"] = Field(default="coco14", description="MS COCO 2014.")
    root: str | None = Field(
        default=None,
        description=(
            "A copy that is already here: a folder with `train2014`, `val2014` and"
            " `annotations/instances_{train,val}2014.json`. It is used in place and never written"
            " to. Without it, the archives are fetched."
        ),
    )
    train_images: TrainImagesArchive = Field(
        default=TrainImagesArchive(), description="Archive of the training images."
    )
    val_images: ValImagesArchive = Field(
        default=ValImagesArchive(), description="Archive of the validation images."
    )
    annotations: AnnotationsArchive = Field(
        default=AnnotationsArchive(), description="Archive of the instance annotations."
    )
    download: DownloadSettings = Field(
        default=DownloadSettings(), description="How archives are fetched and where they are kept."
    )
