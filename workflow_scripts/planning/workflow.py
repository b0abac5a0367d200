"""What the rules ask of a configuration: paths, shards, flags and digests of code.

The rules stay free of logic: their input functions, parameters and targets are methods of `Workflow`.
A method that takes `wildcards` can be given to Snakemake as it is.
"""

import shlex
from collections.abc import Callable, Iterable, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

from workflow_scripts.errors import InputError
from workflow_scripts.planning.fingerprint import code_digests, file_digests
from workflow_scripts.planning.report_files import ReportFiles
from workflow_scripts.report.catalogue import Item, planned_items
from workflow_scripts.settings.base import render_flags, validate
from workflow_scripts.settings.thresholds import AUTO, VALIDATION
from workflow_scripts.settings.workflow import (
    AMN,
    CAM,
    FULL,
    TRUTH,
    ThreadSettings,
    WorkflowSettings,
    source_name,
)

NOTHING = "(?!)"
Wildcards = Any


def _pattern(names: Iterable[str]) -> str:
    """A regular expression that matches these names alone; nothing at all if there are none."""
    return "|".join(names) or NOTHING


class Workflow:
    """A validated configuration, as the rules see it."""

    def __init__(self, config: Mapping[str, Any]) -> None:
        self.settings = validate(WorkflowSettings, dict(config), "the configuration")
        if FULL in self.settings.methods and not self.has_masks:
            raise InputError(
                "methods: `full` learns from ground-truth masks, and this dataset has none; take it out"
            )

    # Paths

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

    # What there is

    @cached_property
    def has_masks(self) -> bool:
        """Whether there is ground truth to evaluate with."""
        dataset = self.settings.dataset
        if self.settings.masks is not None:
            return self.settings.masks
        return dataset.kind != "folder" or (Path(dataset.root) / dataset.masks).is_dir()

    @property
    def trials(self) -> list[int]:
        """Numbers of the trials."""
        return list(range(self.settings.trials))

    @property
    def methods(self) -> list[str]:
        """Methods that have activations."""
        return [method for method in self.settings.methods if method != FULL]

    @property
    def sources(self) -> list[str]:
        """Names of the thresholds of pseudo-masks: t0.50, auto …"""
        return [source_name(threshold) for threshold in self.settings.thresholds]

    @property
    def chosen_sources(self) -> list[str]:
        """Those of them that name no threshold: it is chosen for each trial and method."""
        return [source for source in self.sources if source in (AUTO, VALIDATION)]

    @property
    def amn_methods(self) -> str:
        """AMN and its variants, as a pattern of the wildcard {method}."""
        return _pattern([AMN, *self.settings.variants])

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
        return _pattern([CAM, self.amn_methods, self.imported_activations])

    def shards(self, *splits: str) -> list[str]:
        """Names of the shards of some splits, each once: train-00, train-01 …"""
        count = self.settings.shards
        digits = max(2, len(str(count - 1)))
        names = [f"{split}-{number:0{digits}d}" for split in splits for number in range(count)]
        return list(dict.fromkeys(names))

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
    def threads(self) -> ThreadSettings:
        """Cores of the heavy jobs."""
        return self.settings.threads

    # Flags and code

    def shard_flags(self, wildcards: Wildcards) -> str:
        """`--split … --shard … --shards …` for the wildcard {shard}."""
        split, number = wildcards.shard.rsplit("-", 1)
        return f"--split {split} --shard {int(number)} --shards {self.settings.shards}"

    def training_flags(self, wildcards: Wildcards) -> str:
        """Splits to learn from, and the trial's random seed."""
        splits = " ".join(self.settings.splits.training)
        return f"--splits {splits} --seed {self.settings.seed + int(wildcards.trial)}"

    def flags(self, *field: str) -> str:
        """Settings below a field of the configuration, as flags."""
        settings: Any = self.settings
        for name in field:
            settings = getattr(settings, name)
        return render_flags(settings)

    @property
    def configuration(self) -> str:
        """The whole resolved configuration, as JSON."""
        return self.settings.model_dump_json()

    @property
    def dataset_flags(self) -> str:
        """The dataset's kind, and its settings as flags."""
        dataset = self.settings.dataset
        return f"{dataset.kind} {render_flags(dataset, exclude=frozenset({'kind'}))}"

    def amn_flags(self, wildcards: Wildcards) -> str:
        """Settings of AMN or of the variant {method}."""
        return render_flags(self.settings.amn_settings(wildcards.method))

    def seed_flags(self, wildcards: Wildcards) -> str:
        """Settings of the seeds of {method}."""
        return render_flags(self.settings.seed_settings(wildcards.method))

    @property
    def propagated_sweep_flags(self) -> str:
        """Settings of the sweep of propagated activations, refined if their pseudo-masks are."""
        sweep = self.settings.sweep
        refined = sweep.refined_thresholds if self.settings.pseudo_masks.refinement == "crf" else ()
        return render_flags(sweep.model_copy(update={"refined_thresholds": refined}))

    def import_flags(self, wildcards: Wildcards) -> str:
        """How the activations of {method} are read."""
        chosen = self.settings.imports[wildcards.method]
        return render_flags(chosen, exclude=frozenset({"activations", "seeds", "refine_seeds"}))

    def seed_threshold_flags(self, wildcards: Wildcards, input: Any) -> str:
        """The file of chosen thresholds, where the seeds of {method} use one."""
        chosen = " ".join(map(shlex.quote, input.thresholds))
        return f"--thresholds {chosen}" if chosen else ""

    def threshold_flags(self, wildcards: Wildcards) -> str:
        """The threshold that the wildcard {source} names, as a number or as the file of chosen ones."""
        if chosen := self.chosen_threshold(wildcards):
            return f"--thresholds {shlex.quote(chosen[0])}"
        given = dict(zip(self.sources, self.settings.thresholds, strict=True))
        return f"--threshold {given[wildcards.source]}"

    @staticmethod
    def code(stage: str) -> dict[str, str]:
        """Digests of the code that a stage runs."""
        return code_digests(stage)

    @staticmethod
    def assets(files: Iterable[Path]) -> dict[str, str]:
        """Digests of what is no code, such as captions."""
        return file_digests(files)

    # Inputs that depend on wildcards

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

    # Targets

    def of_methods(self, *pattern: str, methods: list[str] | None = None) -> list[str]:
        """Return a path below each trial and method; below all that have activations if not named."""
        chosen = self.methods if methods is None else methods
        return [
            self.path(str(trial), method, *pattern) for trial in self.trials for method in chosen
        ]

    @property
    def segmentations(self) -> list[str]:
        """Folders of all segmentation networks."""
        trained = [
            folder for source in self.sources for folder in self.of_methods(source, "segmentation")
        ]
        full = [FULL] if FULL in self.settings.methods else []
        return trained + self.of_methods(TRUTH, "segmentation", methods=full)

    @property
    def networks(self) -> list[str]:
        """Weights of all segmentation networks."""
        return [f"{folder}/model.safetensors" for folder in self.segmentations]

    @property
    def predictions(self) -> list[str]:
        """Predictions of all segmentation networks."""
        return [
            f"{folder}/predictions/{shard}.zip"
            for folder in self.segmentations
            for shard in self.segmentation_shards
        ]

    @property
    def training_half(self) -> list[str]:
        """All that is made without ground truth."""
        seeds = [
            file
            for shard in self.activation_shards
            for file in self.of_methods("seeds", f"{shard}.zip")
        ]
        return self.networks + self.predictions + seeds

    @property
    def evaluations(self) -> list[str]:
        """Everything that `summarise` reads; without masks only what seeds are composed of."""
        shards = self.activation_shards
        files = [file for shard in shards for file in self.of_methods("seeds", f"{shard}.json")]
        if not self.has_masks:
            return files
        for shard in shards:
            files += self.of_methods("sweep", f"{shard}.safetensors")
            if self.settings.boundary.enabled:
                files += self.of_methods("propagated_sweep", f"{shard}.safetensors")
            files += self.of_methods("evaluation", "seeds", f"{shard}.json")
            for source in self.sources:
                files += self.of_methods(source, "evaluation", "pseudo_masks", f"{shard}.json")
        for folder in self.segmentations:
            parent = folder.removesuffix("/segmentation")
            files += [
                f"{parent}/evaluation/segmentation/{shard}.json"
                for shard in self.segmentation_shards
            ]
            files.append(f"{folder}/figures.json")
        return files

    # Report

    @property
    def report_files(self) -> ReportFiles:
        """What the report reads."""
        return ReportFiles(self)

    @property
    def report_items(self) -> list[Item]:
        """Figures that this run will have the data for."""
        return planned_items(self.has_masks, self.settings.methods, self.sources)

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

    @property
    def run_flags(self) -> str:
        """Trials, methods, sources and shards, for the stages that look at a whole run."""
        return (
            f"--trials {' '.join(map(str, self.trials))} {self.shown_flags} "
            f"--sources {' '.join(self.sources)}"
        )

    @property
    def shown_flags(self) -> str:
        """Methods and shards, for the stages that show one trial."""
        return (
            f"--methods {' '.join(self.settings.methods)} --shards {' '.join(self.report_shards)}"
        )

    @property
    def seeds_of_trials(self) -> str:
        """Trials and their random seeds."""
        seeds = (str(self.settings.seed + trial) for trial in self.trials)
        return f"--trials {' '.join(map(str, self.trials))} --seeds {' '.join(seeds)}"

    @property
    def summary_flags(self) -> str:
        """What `summarise` gathers."""
        return f"{self.run_flags} --dataset {self.settings.dataset.kind} {self.flags('summary')}"
