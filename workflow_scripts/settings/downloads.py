"""Settings of archives that are fetched, shared by the datasets that have any."""

from pydantic import Field

from workflow_scripts.settings.base import Settings

ADDRESS = (
    "Where the archive is: an http or https address, or the path of a file that is already here."
)
CHECKSUM = (
    "What the archive must hash to: `md5:` or `sha256:` and hexadecimal digits. Empty: its content"
    " is not checked."
)
CHECKSUM_PATTERN = r"^(md5:[0-9a-f]{32}|sha256:[0-9a-f]{64})?$"


class ArchiveSettings(Settings):
    """One archive. A dataset derives its archives from this and gives both fields their default."""

    address: str = Field(description=ADDRESS, min_length=1)
    checksum: str = Field(description=CHECKSUM, pattern=CHECKSUM_PATTERN)


class DownloadSettings(Settings):
    """How archives are fetched and where they are kept."""

    folder: str = Field(
        default="data",
        min_length=1,
        description=(
            "Folder for archives and their extracted content. All runs share it: what is there"
            " already is not fetched again."
        ),
    )
    attempts: int = Field(
        default=5,
        ge=1,
        le=100,
        description=(
            "Attempts in a row without a single new byte after which a download is given up."
        ),
    )
    timeout: float = Field(
        default=60.0,
        gt=0,
        description="Seconds of silence after which a connection counts as dead.",
    )
    pause: float = Field(
        default=1.0,
        ge=0,
        description=(
            "Seconds to wait before the second attempt; twice as long before each further one, up"
            " to a minute."
        ),
    )
    keep_archives: bool = Field(
        default=True,
        description="Keep an archive after its extraction. `false` saves half of the disk space.",
    )
