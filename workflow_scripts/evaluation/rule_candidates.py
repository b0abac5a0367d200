"""The threshold that each rule chooses from a method's activations; no ground truth takes part."""

from collections.abc import Iterable, Sequence
from pathlib import Path

from workflow_scripts.console.progress import progress
from workflow_scripts.datasets.index import Index
from workflow_scripts.doors.threshold_rule import THRESHOLD_RULES, ThresholdSettings
from workflow_scripts.errors import InputError
from workflow_scripts.evaluation.activation_statistics import (
    ActivationStatistics,
    SampledImage,
    count_images,
    read_activations,
    sample_images,
)
from workflow_scripts.evaluation.threshold_sweep import even_thresholds


def candidates_of(
    rules: Iterable[str], index: Index, shards: Sequence[Path], settings: ThresholdSettings
) -> dict[str, float]:
    """Ask some rules for a threshold.

    Args:
        rules: Their names.
        index: Of the dataset.
        shards: Files of activations of the training images.
        settings: Distance of the thresholds, and how many images a rule may see.

    Returns:
        Threshold by rule; rules that find none are absent.

    Raises:
        InputError: A shard cannot be used, there is nothing to go by, or a rule gives what is no threshold.
    """
    activations = progress(read_activations(index, shards), description="count activations")
    statistics = ActivationStatistics.of(
        activations, len(index.classes), even_thresholds(settings.step)
    )
    found = {}
    for name in rules:
        rule = THRESHOLD_RULES.get(name)()
        sample: Iterable[SampledImage] = ()
        if rule.reads_images:
            seen = min(settings.sample, count_images(shards))
            images = sample_images(index, shards, settings.sample)
            sample = progress(images, total=seen, description=f"look at images: {name}")
        threshold = rule.choose(statistics, sample)
        if threshold is None:
            continue
        if not 0 < threshold < 1:
            raise InputError(
                f"threshold rule `{name}`: chose {threshold}, expected a number between 0 and 1 or None; "
                "correct the rule, or ask for another by `choose_thresholds: {rule: …}`"
            )
        found[name] = float(threshold)
    return found
