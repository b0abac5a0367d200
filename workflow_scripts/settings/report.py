"""Settings of the report: gallery and threshold explorer."""

from pydantic import Field

from workflow_scripts.settings.base import Settings


class GallerySettings(Settings):
    """Which images the gallery shows, and how large."""

    gallery_images: int = Field(
        120,
        ge=1,
        description="images in the gallery, evenly spaced over the ranking by gain; all if fewer",
    )
    gallery_page: int = Field(10, ge=1, description="images on one page of the gallery")
    thumbnail: int = Field(200, ge=32, description="longest side of the gallery's pictures, pixels")


class ExplorerSettings(Settings):
    """Which images the threshold explorer shows, and how large the page may get."""

    explorer_images: int = Field(
        24,
        ge=1,
        description="images in the explorer: a third each of best, median and worst gain",
    )
    explorer_megabytes: float = Field(
        5.0, gt=0, description="largest size of the page; images that do not fit are left out"
    )


class ReportSettings(Settings):
    """The report's pages."""

    gallery: GallerySettings = GallerySettings()
    explorer: ExplorerSettings = ExplorerSettings()
