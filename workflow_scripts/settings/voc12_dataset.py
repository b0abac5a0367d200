"""Settings of PASCAL VOC 2012, with the Semantic Boundaries Dataset (SBD) as its extra images."""

from typing import Literal

from pydantic import Field, model_validator

from workflow_scripts.settings.base import Settings
from workflow_scripts.settings.downloads import (
    ADDRESS,
    CHECKSUM,
    CHECKSUM_PATTERN,
    ArchiveSettings,
    DownloadSettings,
)


class TrainvalArchive(ArchiveSettings):
    """VOCtrainval_11-May-2012.tar; address and MD5 as torchvision publishes them."""

    address: str = Field(
        default="https://thor.robots.ox.ac.uk/pascal/VOC/voc2012/VOCtrainval_11-May-2012.tar",
        min_length=1,
        description=ADDRESS,
    )
    checksum: str = Field(
        default="md5:6cd6e144f989b92b3379bac3b3de84fd",
        pattern=CHECKSUM_PATTERN,
        description=CHECKSUM,
    )


class SbdArchive(ArchiveSettings):
    """SBD's benchmark.tgz; address and MD5 as torchvision publishes them."""

    address: str = Field(
        default=(
            "https://www2.eecs.berkeley.edu/Research/Projects/CS/vision/grouping/"
            "semantic_contours/benchmark.tgz"
        ),
        min_length=1,
        description=ADDRESS,
    )
    checksum: str = Field(
        default="md5:82b4d87ceb2ed10f6038a1cba92111cb",
        pattern=CHECKSUM_PATTERN,
        description=CHECKSUM,
    )


class TestArchive(ArchiveSettings):
    """VOC2012test.tar, which the organisers give to registered users only."""

    __test__ = False  # pytest would collect a class of this name

    address: str = Field(
        default="",
        description=(
            "Path of VOC2012test.tar: http://host.robots.ox.ac.uk:8080 gives it to registered"
            " users. Empty: the test images are expected in `root`."
        ),
    )
    checksum: str = Field(
        default="md5:9065beb292b6c291fad82b2725749fda",
        pattern=CHECKSUM_PATTERN,
        description=CHECKSUM,
    )


class Voc12DatasetSettings(Settings):
    """PASCAL VOC 2012: 20 classes.

    Splits of the index: `train` (1,464 images), `val` (1,449), `train_aug` (the 9,118 images that
    SBD adds; with `train` they are the 10,582 of the literature) and, on demand, `test` (1,456).
    """

    kind: Literal["voc12"] = Field(default="voc12", description="PASCAL VOC 2012.")
    root: str | None = Field(
        default=None,
        description=(
            "A devkit that is already here: the folder `VOCdevkit/VOC2012`, with `JPEGImages`,"
            " `Annotations`, `SegmentationClass` and `ImageSets`. It is used in place and never"
            " written to. Without it, `trainval` is fetched."
        ),
    )
    sbd_root: str | None = Field(
        default=None,
        description=(
            "SBD that is already here: the folder `benchmark_RELEASE/dataset`, with `cls`,"
            " `train.txt` and `val.txt`. Without it, `sbd` is fetched if it is needed."
        ),
    )
    augmented: bool = Field(
        default=True,
        description=(
            "Add the split `train_aug`. A devkit with `SegmentationClassAug` and a list"
            " `ImageSets/Segmentation/train_aug.txt` (or `trainaug.txt`) is used as it is; any"
            " other is completed from SBD."
        ),
    )
    test_images: bool = Field(
        default=False,
        description="Add the split `test`, whose masks only VOC's evaluation server has.",
    )
    difficult: bool = Field(
        default=True,
        description=(
            "Count objects that the annotations call difficult as labels of their image, as the"
            " label files in common use do."
        ),
    )
    trainval: TrainvalArchive = Field(
        default=TrainvalArchive(), description="Archive of training and validation images."
    )
    sbd: SbdArchive = Field(default=SbdArchive(), description="Archive of SBD.")
    test: TestArchive = Field(default=TestArchive(), description="Archive of the test images.")
    download: DownloadSettings = Field(
        default=DownloadSettings(), description="How archives are fetched and where they are kept."
    )

    @model_validator(mode="after")
    def _test_images_have_a_source(self) -> "Voc12DatasetSettings":
        if self.test_images and not (self.test.address or self.root):
            raise ValueError(
                "`test_images` needs `test.address` (the path of VOC2012test.tar) or a `root` that"
                " holds the test images"
            )
        return self
