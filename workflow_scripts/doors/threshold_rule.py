"""The door of threshold rules: background thresholds that nobody has to guess, chosen without any mask.

An entry is a file with a class derived from `ThresholdRule`. A configuration asks for a rule called `mine`
by `choose_thresholds: {rule: mine}`, and for its thresholds wherever a threshold may be `auto`.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field, field_validator

from workflow_scripts.doors.door import Door
from workflow_scripts.errors import InputError
from workflow_scripts.settings.refinement import ValidationSettings

if TYPE_CHECKING:
    import numpy as np

    from workflow_scripts.evaluation.activation_statistics import (
        ActivationStatistics,
        SampledImage,
    )

# Decides where the rule that was asked for finds no threshold.
FALLBACK = "consensus"


class ThresholdRule(ABC):
    """A way from a method's activations of all training images to one background threshold.

    Attributes:
        name: How a configuration asks for it.
        reads_images: Whether it needs a sample of the images, and not only the statistics.
        finds_none: What it means that `choose` returns None, for the log.
        by_image: Whether `of_image` is to be asked for each training image.
    """

    name: ClassVar[str]
    reads_images: ClassVar[bool] = False
    finds_none: ClassVar[str] = "it finds no threshold"
    by_image: ClassVar[bool] = False

    @abstractmethod
    def choose(
        self, statistics: "ActivationStatistics", sample: "Iterable[SampledImage]"
    ) -> float | None:
        """Choose a threshold, an activation between 0 and 1.

        Args:
            statistics: How often each activation occurs, over all training images that have labels: its
                `thresholds` are those to choose from, and border the bins of its `counts`.
            sample: Images that have labels, evenly spread over the training images, each with `pixels`,
                uint8 [H, W, 3], `labels` and their `activation`, float32 [k, H, W]; they are read while one
                goes over them, once. Empty unless the rule reads images.

        Returns:
            The threshold; None where the rule finds none, and `consensus` decides.

        Raises:
            InputError: There is nothing to go by at all.
        """

    def of_classes(
        self, statistics: "ActivationStatistics", threshold: float
    ) -> Mapping[int, float]:
        """Thresholds of pseudo-masks for some classes, by number; the others have the one for all.

        Args:
            statistics: As above; `counts[c]` are the pixels that class c wins, `images[c]` the number of
                images that show it.
            threshold: What was chosen for all.
        """
        return {}

    def of_image(
        self, counts: "np.ndarray", statistics: "ActivationStatistics", threshold: float
    ) -> float | None:
        """The threshold of one training image's pseudo-mask, which goes before those of classes, or None.

        Args:
            counts: int64 [T + 1], pixels of the image by bin of the winner's activation.
            statistics: As above.
            threshold: What was chosen for all.
        """
        return None


THRESHOLD_RULES: Door[ThresholdRule] = Door(
    "threshold rule", "workflow_scripts.threshold_rules", ThresholdRule
)


class ThresholdSettings(ValidationSettings):
    """The rule behind `auto`, which sees activations, image labels and images, but no mask."""

    rule: str = Field(
        "contrast",
        description="rule for the pseudo-masks. contrast: of the thresholds whose masks separate the colours "
        "of the training images as well as the best, the one nearest to that of largest between-class "
        "variance (Otsu). consensus: median of three rules on the activations of all training images: "
        "Otsu's, entropy (Kapur) and Fisher ratio. entropy: the second of these alone. shrunken: entropy, "
        "with thresholds of classes and images held by that of all. colours: the masks separate the colours "
        "best; where they separate none, consensus. Or the rule of a plug-in; docs/thresholds.md has figures",
    )
    seed_rule: str = Field(
        "contrast", description="rule for the middle of the seeds' two thresholds"
    )
    sample: int = Field(
        1000,
        ge=1,
        description="images, evenly spread, that rules see which need images, as colours",
    )

    @field_validator("rule", "seed_rule")
    @classmethod
    def _known(cls, name: str) -> str:
        # The file of a rule that there is need not be imported to know its name.
        if name not in THRESHOLD_RULES.names():
            try:
                THRESHOLD_RULES.get(name)
            except InputError as error:
                raise ValueError(str(error)) from None
        return name

    @property
    def rules(self) -> tuple[str, ...]:
        """Names of all rules that may decide, each once."""
        return tuple(dict.fromkeys((self.rule, self.seed_rule, FALLBACK)))

    def chosen_entries(self) -> list[tuple[Any, str]]:
        """See `Settings`."""
        return [(THRESHOLD_RULES, name) for name in self.rules]
