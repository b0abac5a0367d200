"""The threshold of largest entropy of the pooled activations (Kapur, Sahoo and Wong 1985)."""

from collections.abc import Iterable
from typing import ClassVar

from workflow_scripts.doors.threshold_rule import ThresholdRule
from workflow_scripts.evaluation.activation_statistics import ActivationStatistics, SampledImage
from workflow_scripts.threshold_rules.consensus import maximum_entropy


class Entropy(ThresholdRule):
    """Kapur's threshold."""

    name: ClassVar[str] = "entropy"

    def choose(self, statistics: ActivationStatistics, sample: Iterable[SampledImage]) -> float:
        """See `ThresholdRule`; raises InputError where the activations hold nothing but one value."""
        return maximum_entropy(statistics)
