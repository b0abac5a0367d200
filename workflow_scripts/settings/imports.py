"""Settings of activations that another method made."""

from typing import Literal

from pydantic import Field

from workflow_scripts.settings.base import Settings


class ImportActivationsSettings(Settings):
    """How another method's activations become values in 0…1."""

    normalise: Literal["none", "maximum"] = Field(
        "none",
        description="none: values must lie in 0…1 already; maximum: negative values become 0 and each "
        "class of an image is divided by its maximum, as class activation maps are",
    )
