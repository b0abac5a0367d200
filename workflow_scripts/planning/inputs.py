"""Inputs of rules that depend on wildcards."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from workflow_scripts.planning.dataset_state import dataset_tables
from workflow_scripts.planning.layout import Layout, Wildcards
from workflow_scripts.settings.thresholds import AUTO, VALIDATION
from workflow_scripts.settings.workflow import TRUTH


def _existing(path: str | None) -> list[str]:
    """A file that is missing is reported by the stage, which says what to do."""
    return [path] if path is not None and Path(path).is_file() else []


class Inputs(Layout):
    """A layout with the inputs of its rules."""

    @property
    def _refined(self) -> str:
        return "propagated" if self.settings.boundary.enabled else "activations"

    def refined_activations(self, wildcards: Wildcards) -> str:
        """Activations that pseudo-masks are made of: propagated if boundaries are learnt."""
        return self.path("{trial}", "{method}", self._refined, "{shard}.safetensors")

    def choosing_activations(self, *splits: str) -> Callable[[Wildcards], list[str]]:
        """Activations that thresholds are chosen by, of some splits (those of training if none).

        The wildcard {place} says for what: `thresholds` of pseudo-masks or `seed_thresholds`.
        """
        shards = self.shards(*(splits or self.settings.splits.training))

        def activations(wildcards: Wildcards) -> list[str]:
            kind = self._refined if wildcards.place == "thresholds" else "activations"
            folder = (str(wildcards.trial), wildcards.method, kind)
            return [self.path(*folder, f"{shard}.safetensors") for shard in shards]

        return activations

    @property
    def validation_activations(self) -> Callable[[Wildcards], list[str]]:
        """Activations of the splits on whose masks thresholds are chosen."""
        return self.choosing_activations(*self.settings.splits.thresholds)

    def chosen_threshold(self, wildcards: Wildcards) -> list[str]:
        """The file that holds the threshold of pseudo-masks, where {source} is no number."""
        if wildcards.source not in (AUTO, VALIDATION):
            return []
        folder = (str(wildcards.trial), wildcards.method, wildcards.source)
        return [self.path(*folder, "thresholds.json")]

    def chosen_seed_thresholds(self, wildcards: Wildcards) -> list[str]:
        """The file that holds the thresholds of the seeds of {method}, where they are no numbers."""
        source = self.settings.seed_settings(wildcards.method).chosen_by
        if source is None:
            return []
        return [self.path(str(wildcards.trial), wildcards.method, source, "seed_thresholds.json")]

    def evaluated_masks(self, wildcards: Wildcards) -> str:
        """Pseudo-masks or predictions, as the wildcard {kind} says."""
        folders = {"pseudo_masks": "pseudo_masks", "segmentation": "segmentation/predictions"}
        return self.path("{trial}", "{method}", "{source}", folders[wildcards.kind], "{shard}.zip")

    def network_evaluations(self, wildcards: Wildcards) -> list[str]:
        """Evaluations of one segmentation network's predictions."""
        folder = (str(wildcards.trial), wildcards.method, wildcards.source)
        return [
            self.path(*folder, "evaluation", "segmentation", f"{shard}.json")
            for shard in self.segmentation_shards
        ]

    def dataset_tables(self, wildcards: Wildcards) -> list[str]:
        """Tables of a dataset that is already here."""
        return [str(path) for path in dataset_tables(self.settings.dataset)]

    def weights(self, *field: str) -> Callable[[Wildcards], list[str]]:
        """The file of weights that the network of a training stage starts from, if it is one.

        Args:
            field: Names of the stage's settings in the configuration.
        """

        def file(wildcards: Wildcards) -> list[str]:
            settings: Any = self.settings
            for name in field:
                settings = getattr(settings, name)
            return _existing(settings.backbone.file)

        return file

    def amn_weights(self, wildcards: Wildcards) -> list[str]:
        """The same for AMN or the variant {method}."""
        return _existing(self.settings.amn_settings(wildcards.method).backbone.file)

    def checkpoint(self, wildcards: Wildcards) -> list[str]:
        """The file that {network} is imported from."""
        return [self.settings.checkpoints.files[wildcards.network]]

    def training_masks(self, wildcards: Wildcards) -> list[str]:
        """Pseudo-masks that a segmentation network learns from; none for the full reference."""
        if wildcards.source == TRUTH:
            return []
        folder = (str(wildcards.trial), wildcards.method, wildcards.source, "pseudo_masks")
        return [self.path(*folder, f"{shard}.zip") for shard in self.training_shards]

    def _training_seeds(self, trial: object, method: str) -> list[str]:
        return [
            self.path(str(trial), method, "seeds", f"{shard}.zip") for shard in self.training_shards
        ]

    def own_training_seeds(self, wildcards: Wildcards) -> list[str]:
        """Seeds of all training shards, made of {method}'s own activations."""
        return self._training_seeds(wildcards.trial, wildcards.method)

    def source_training_seeds(self, wildcards: Wildcards) -> list[str]:
        """Seeds of all training shards that the AMN {method} learns from."""
        return self._training_seeds(wildcards.trial, self.settings.seeds_source(wildcards.method))

    def source_seeds(self, wildcards: Wildcards) -> str:
        """Seeds of {shard} made by the method whose seeds the AMN {method} learnt from."""
        source = self.settings.seeds_source(wildcards.method)
        return self.path("{trial}", source, "seeds", "{shard}.zip")

    def test_predictions(self, wildcards: Wildcards) -> list[str]:
        """Predictions of one network for the split `test`, whose masks nobody here has."""
        folder = self.path(str(wildcards.trial), wildcards.method, wildcards.source, "segmentation")
        return [f"{folder}/predictions/{shard}.zip" for shard in self.shards("test")]

    def imported_folder(self, wildcards: Wildcards) -> str:
        """Folder that holds what is imported as {method}."""
        method = self.settings.imports[wildcards.method]
        return str(method.activations or method.seeds)
