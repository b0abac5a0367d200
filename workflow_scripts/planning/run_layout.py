"""Where a run's files lie, and what there is in it: trials, methods, thresholds, shards."""

from collections.abc import Iterable, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

from workflow_scripts.doors.method import Reads
from workflow_scripts.errors import InputError
from workflow_scripts.models.feature_settings import CacheFeaturesSettings, stored_features
from workflow_scripts.planning.configuration import (
    FULL,
    TRAIN,
    ThreadSettings,
    read_configuration,
    source_name,
)
from workflow_scripts.planning.sharing import kept_parts, parts_at_a_time
from workflow_scripts.settings.imports import BOUNDARY, checkpoint_key
from workflow_scripts.settings.refinement import AUTO, VALIDATION
from workflow_scripts.storage.shard_files import shard_names

NOTHING = "(?!)"
Wildcards = Any


def _pattern(names: Iterable[str]) -> str:
    """A regular expression that matches these names alone; nothing at all if there are none."""
    return "|".join(names) or NOTHING


class Layout:
    """A validated configuration, and the paths and names that follow from it."""

    def __init__(self, config: Mapping[str, Any]) -> None:
        self.settings = read_configuration(config, "the configuration")
        self.most_shards = self.settings.shards
        self.settings = self.settings.model_copy(update={"shards": self._parts()})
        if FULL in self.settings.methods and not self.has_masks:
            raise InputError(
                "methods: `full` learns from ground-truth masks, and this dataset has none; take it out"
            )
        for network, file in self.settings.checkpoints.files.items():
            if not Path(file).is_file():
                raise InputError(f"{checkpoint_key(network)}: {file}: no such file")
            if Path(file).resolve().is_relative_to(Path(self.folder).resolve()):
                raise InputError(
                    f"{checkpoint_key(network)}: {file}: this run's own results are made anew; name "
                    "the run otherwise, or copy the file"
                )
        self._check_splits()
        self._check_stored_features()

    def _check_splits(self) -> None:
        """See that the dataset will have the splits that are named, as far as its kind tells.

        Raises:
            InputError: It will not; names the key.
        """
        known = self.settings.dataset.splits()
        if known is None:
            return
        for use, names in self.settings.splits:
            for name in names:
                if name not in known:
                    raise InputError(
                        f"splits.{use}: the dataset as it is configured has no split `{name}`; it has "
                        f"{', '.join(known)}: name one of these, or see in docs/datasets.md what adds it"
                    )

    def _check_stored_features(self) -> None:
        """See that `features.cache` is asked for only where a training can learn from stored features.

        Raises:
            InputError: Elsewhere; names the key, and says why not and what to do.
        """
        several = "reads several feature maps of its backbone, and the last one alone is stored"
        trainings: list[tuple[str, Any, str | None]] = []
        for name, (section, settings) in self._method_trainings.items():
            why = None
            if self.settings.entry(name).reads is Reads.NETWORK:
                why = "this method goes on from another's network, whose backbone learns: take another method"
            elif not self.settings.entry(name).trains:
                why = "this method is not trained and reads no features: take another method"
            trainings.append((section, settings, why))
        segmenter = self.settings.train_segmentation
        why = f"this network {several}: give it `levels: 1`" if segmenter.reads_pyramid else None
        trainings.append(("train_segmentation", segmenter, why))
        if self.settings.boundary.enabled:
            why = f"the boundary network {several}: set `boundary.enabled: false`"
            trainings.append(("boundary.train", self.settings.boundary.train, why))
        for section, settings, why in trainings:
            if why is not None and settings.training.features.cache:
                raise InputError(f"{section}.training.features.cache: {why}, or leave `cache` out")

    @cached_property
    def _method_trainings(self) -> dict[str, tuple[str, Any]]:
        """Section of the configuration and settings of each method that is trained here."""
        return {
            name: (
                f"variants.{name}" if name in self.settings.variants else TRAIN + name,
                self.settings.training(name),
            )
            for name in self.needed_networks
            if name not in self.settings.checkpoints.files
        }

    def _parts(self) -> int:
        """Shards of a split: those asked for; on one machine those that the run has, else those that pay."""
        if not self.settings.one_machine:
            return self.most_shards
        split = self.settings.splits.training[0]
        kept = kept_parts(Path(self.folder), self.most_shards, split)
        if kept is not None:
            return kept
        return parts_at_a_time(self.most_shards, self.settings.threads.refinement)

    @cached_property
    def folder(self) -> str:
        """Folder of the run."""
        return f"{self.settings.results}/{self.settings.run}"

    def path(self, *parts: str) -> str:
        """A path below the run's folder; wildcards stay."""
        return "/".join((self.folder, *parts))

    def run_folder(self, wildcards: Wildcards) -> str:
        """Folder of the run, for stages that look at all of it."""
        return self.folder

    def dataset_folder(self, wildcards: Wildcards) -> str:
        """Folder of the index and of what the dataset's kind makes itself."""
        return self.path("dataset")

    def judged_folder(self, wildcards: Wildcards) -> str:
        """Folder of the predicted quality of all pseudo-masks."""
        return self.path("judged")

    def figures_folder(self, wildcards: Wildcards) -> str:
        """Folder of the report's figures."""
        return self.path("figures")

    @property
    def index(self) -> str:
        """The dataset's index."""
        return self.path("dataset", "index.csv")

    def log(self, rule: str, *wildcards: str) -> str:
        """Log file of a rule."""
        return self.path("logs", rule, "-".join(wildcards or (rule,)) + ".log")

    def benchmark(self, rule: str, *wildcards: str) -> str:
        """Benchmark file of a rule: wall time and memory."""
        return self.path("benchmarks", rule, "-".join(wildcards or (rule,)) + ".tsv")

    @cached_property
    def has_masks(self) -> bool:
        """Whether there is ground truth to evaluate with."""
        if self.settings.masks is not None:
            return self.settings.masks
        return self.settings.dataset.has_masks()

    @property
    def trials(self) -> list[int]:
        """Numbers of the trials."""
        return list(range(self.settings.trials))

    @property
    def methods(self) -> list[str]:
        """Methods that have activations."""
        return self.settings.with_activations

    @property
    def sources(self) -> list[str]:
        """Names of the thresholds of pseudo-masks: t0.50, auto …"""
        return [source_name(threshold) for threshold in self.settings.thresholds]

    @property
    def chosen_sources(self) -> list[str]:
        """Those of them that name no threshold: it is chosen for each trial and method."""
        return [source for source in self.sources if source in (AUTO, VALIDATION)]

    @cached_property
    def needed_networks(self) -> list[str]:
        """Methods whose networks this run has: its own, and those that they learn from."""
        return self._with_sources(self.settings.trained)

    @cached_property
    def needed_methods(self) -> list[str]:
        """Methods that have activations, and those whose seeds they learn from."""
        found: list[str] = []
        waiting = list(self.methods)
        while waiting:
            name = waiting.pop(0)
            if name not in found:
                found.append(name)
                waiting += self._sources(name, Reads.SEEDS)
        # A network that is read may have learnt from seeds itself.
        for name in self.needed_networks:
            found += [one for one in self._sources(name, Reads.SEEDS) if one not in found]
        return found

    def _sources(self, method: str, *reads: Reads) -> list[str]:
        """The method that one learns from, if it reads what is asked for."""
        if method in self.settings.imports or self.settings.entry(method).reads not in reads:
            return []
        return [str(self.settings.source(method))]

    def _with_sources(self, methods: Iterable[str]) -> list[str]:
        found: list[str] = []
        waiting = list(methods)
        while waiting:
            name = waiting.pop(0)
            if name not in found and name not in self.settings.imports:
                found.append(name)
                # What is imported starts from no network any more, but is still given seeds.
                imported = name in self.settings.checkpoints.files
                reads = (Reads.SEEDS,) if imported else (Reads.SEEDS, Reads.NETWORK)
                waiting += self._sources(name, *reads)
        return found

    @property
    def trained_methods(self) -> str:
        """Methods whose network is trained, as a pattern of the wildcard {method}."""
        imported = self.settings.checkpoints.files
        return _pattern(name for name in self.needed_networks if name not in imported)

    @property
    def inferred_methods(self) -> str:
        """Methods whose activations a network makes, as a pattern of the wildcard {method}."""
        return _pattern(self.needed_networks)

    @property
    def imported_networks(self) -> str:
        """Folders of the networks that are imported, as a pattern of the wildcard {network}."""
        return _pattern(self.settings.checkpoints.files)

    @property
    def trained_boundaries(self) -> str:
        """Methods whose boundary network is trained, as a pattern of the wildcard {method}."""
        imported = self.settings.checkpoints.files
        every = (*self.needed_networks, *self.settings.imports)
        return _pattern(name for name in every if f"{name}/{BOUNDARY}" not in imported)

    @property
    def imported_activations(self) -> str:
        """Methods whose activations are imported, as a pattern of the wildcard {method}."""
        imports = self.settings.imports.items()
        return _pattern(name for name, method in imports if method.activations)

    @property
    def imported_seeds(self) -> str:
        """Methods whose seeds are imported, as a pattern of the wildcard {method}."""
        imports = self.settings.imports.items()
        return _pattern(name for name, method in imports if method.seeds)

    @property
    def thresholded_methods(self) -> str:
        """Methods whose seeds are made of activations, as a pattern of the wildcard {method}."""
        return _pattern([self.inferred_methods, self.imported_activations])

    def shards(self, *splits: str) -> list[str]:
        """Names of the shards of some splits, each once: train-00, train-01 …"""
        names = [shard_names(split, self.settings.shards) for split in dict.fromkeys(splits)]
        return [name for of_split in names for name in of_split]

    @property
    def activation_shards(self) -> list[str]:
        """Shards whose activations are evaluated."""
        return self.shards(*self.settings.splits.activations)

    @property
    def training_shards(self) -> list[str]:
        """Shards that networks learn from."""
        return self.shards(*self.settings.splits.training)

    @property
    def segmentation_shards(self) -> list[str]:
        """Shards on which segmentation networks are evaluated."""
        return self.shards(*self.settings.splits.segmentation)

    @property
    def pseudo_mask_shards(self) -> list[str]:
        """Shards whose pseudo-masks are evaluated; without masks, those that networks learn from."""
        return self.activation_shards if self.has_masks else self.training_shards

    @property
    def report_shards(self) -> list[str]:
        """Shards of which the summary and the report show something."""
        return list(dict.fromkeys([*self.activation_shards, *self.segmentation_shards]))

    @property
    def report_splits(self) -> list[str]:
        """Splits whose images the report shows, those that nothing was trained on first."""
        splits = self.settings.splits
        return list(dict.fromkeys([*splits.segmentation, *splits.activations]))

    @property
    def explored_split(self) -> str:
        """Split whose activations the explorer shows: if possible one that nothing was trained on."""
        splits = self.settings.splits
        unseen = [split for split in splits.activations if split not in splits.training]
        return [*unseen, *splits.activations][0]

    @cached_property
    def feature_sets(self) -> dict[str, CacheFeaturesSettings]:
        """Features that are stored for trainings, by the name of their folder."""
        sections = dict(self._method_trainings.values())
        sections["train_segmentation"] = self.settings.train_segmentation
        found = [stored_features(settings, section) for section, settings in sections.items()]
        return {one.folder: one for one in found if one is not None}

    @property
    def features(self) -> list[str]:
        """All shards of stored features."""
        return [
            self.path("features", folder, f"{shard}.safetensors")
            for folder in self.feature_sets
            for shard in self.training_shards
        ]

    @property
    def threads(self) -> ThreadSettings:
        """Cores of the heavy jobs."""
        return self.settings.threads
