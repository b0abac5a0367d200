"""Settings of pseudo-masks for new images."""

from pydantic import Field

from workflow_scripts.settings.base import Settings


class LabelSettings(Settings):
    """What may differ from the run that the networks come from."""

    threshold: float | None = Field(
        None, gt=0, lt=1, description="background threshold; the run's own (first) one if left out"
    )
