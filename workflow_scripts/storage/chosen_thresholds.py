"""Files of thresholds that a rule chose: one small JSON file a method and trial."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import numpy as np

from workflow_scripts.errors import InputError
from workflow_scripts.settings.refinement import SeedSettings
from workflow_scripts.storage.atomic import atomic_path


@dataclass(frozen=True)
class ChosenThresholds:
    """What a rule chose for the three places that need a threshold, and all rules' candidates."""

    pseudo_mask: float
    seed_foreground: float
    seed_background: float
    rule: str
    """What chose the pseudo-masks' threshold."""
    candidates: Mapping[str, float] = field(default_factory=dict)
    """Threshold of the pseudo-masks by each rule that was computed."""
    classes: Mapping[str, float] = field(default_factory=dict)
    """Thresholds of the pseudo-masks of single classes, by name; the others have `pseudo_mask`."""
    images: Mapping[str, float] = field(default_factory=dict)
    """Thresholds of the pseudo-masks of single images, by id; they go before those of classes."""

    def of(self, image_id: str | None, labels: Sequence[int], classes: Sequence[str]) -> np.ndarray:
        """Threshold of each of an image's labels, float64 [k].

        Args:
            image_id: The image; None for one that is not in the dataset.
            labels: Its class numbers.
            classes: Names of all classes.
        """
        if image_id is not None and image_id in self.images:
            return np.full(len(labels), self.images[image_id])
        names = [classes[label - 1] for label in labels]
        return np.array([self.classes.get(name, self.pseudo_mask) for name in names], np.float64)

    @classmethod
    def around(
        cls,
        threshold: float,
        rule: str,
        margin: float,
        candidates: Mapping[str, float],
        seeds: float | None = None,
    ) -> "ChosenThresholds":
        """Place the seeds' thresholds on both sides of `seeds`, else of the pseudo-masks' threshold.

        With a margin of 0.125 this gives about the constants that were tuned on masks: 0.30 and
        0.05 where the CAM's best threshold is 0.15, 0.45 and 0.15 where AMN's is 0.30.
        """
        centre = threshold if seeds is None else seeds
        return cls(
            pseudo_mask=round(threshold, 6),
            seed_foreground=round(min(centre + margin, (1 + centre) / 2), 6),
            seed_background=round(max(centre - margin, centre / 2), 6),
            rule=rule,
            candidates=_rounded(candidates),
        )

    def with_tables(
        self, classes: Mapping[str, float], images: Mapping[str, float]
    ) -> "ChosenThresholds":
        """The same with thresholds of single classes and images."""
        return replace(self, classes=_rounded(classes), images=_rounded(images))

    def write(self, path: Path) -> None:
        """Write to a JSON file, whole or not at all."""
        with atomic_path(path) as temporary:
            temporary.write_text(json.dumps(asdict(self), indent=2) + "\n", encoding="utf-8")


def _rounded(values: Mapping[str, float]) -> dict[str, float]:
    return {name: round(value, 6) for name, value in values.items()}


def read_thresholds(path: Path) -> ChosenThresholds:
    """Read what `ChosenThresholds.write` wrote.

    Raises InputError when the file is missing, or a threshold in it does not lie between 0 and 1.
    """
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        chosen = ChosenThresholds(
            pseudo_mask=float(values["pseudo_mask"]),
            seed_foreground=float(values["seed_foreground"]),
            seed_background=float(values["seed_background"]),
            rule=str(values["rule"]),
            candidates=dict(values["candidates"]),
            classes=dict(values.get("classes", {})),
            images=dict(values.get("images", {})),
        )
        every = (chosen.pseudo_mask, chosen.seed_foreground, chosen.seed_background)
        for threshold in (*every, *chosen.classes.values(), *chosen.images.values()):
            if not 0 < threshold < 1:
                raise ValueError(f"threshold {threshold} does not lie between 0 and 1")
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise InputError(
            f"{path}: not a complete file of thresholds ({error!r}). Delete it, so that"
            " choose_thresholds runs again."
        ) from error
    return chosen


def seed_thresholds(settings: SeedSettings, chosen: Path | None) -> tuple[float, float]:
    """Foreground and background threshold of seeds, those by name read from a file.

    Raises:
        InputError: A name is given but no file, or the two thresholds are in the wrong order.
    """
    foreground, background = settings.foreground_threshold, settings.background_threshold
    if settings.chosen_by:
        if chosen is None:
            raise InputError(
                f"a threshold is `{settings.chosen_by}`: give the file that choose_thresholds wrote, "
                "`--thresholds FILE`, or numbers"
            )
        found = read_thresholds(chosen)
        foreground = found.seed_foreground if isinstance(foreground, str) else foreground
        background = found.seed_background if isinstance(background, str) else background
    assert not isinstance(foreground, str) and not isinstance(background, str)
    if background > foreground:
        raise InputError(
            f"the seeds' background threshold ({background}) exceeds their foreground threshold "
            f"({foreground}); choose both by the same rule, or give two numbers"
        )
    return foreground, background
