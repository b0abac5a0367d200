"""What a run is to end with, and all jobs on the way.

Snakemake makes a missing file if a target rule asks for it, or a job that runs. A job that fails leaves
nothing of its former output: if nobody else asked for that, what was made from it would pass as up to date,
and the next run would keep it. So the target rules ask for every job's output. Benchmarks of other
configurations that lie in the same folder do not count: `job_patterns` names the jobs that do.
"""

import re
import shlex
from collections.abc import Iterable

from workflow_scripts.doors.method import Reads
from workflow_scripts.planning.configuration import FULL, TRUTH
from workflow_scripts.planning.run_layout import Layout
from workflow_scripts.settings.imports import BOUNDARY
from workflow_scripts.settings.refinement import AUTO, VALIDATION

# Rules that have one job.
SINGLE = (
    "prepare_dataset", "record_configuration", "summarise", "plot_figures", "make_gallery",
    "make_explorer", "make_pages", "render_report", "judge",
)  # fmt: skip


def _any(values: Iterable[str]) -> str:
    """A pattern of one of these values; empty if there are none."""
    found = [re.escape(value).replace(r"\-", "-") for value in dict.fromkeys(values)]
    return f"({'|'.join(found)})" if len(found) > 1 else "".join(found)


class Targets(Layout):
    """A layout with the files that target rules, `summarise` and the report ask for, and its jobs."""

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

    @property
    def inferred(self) -> list[str]:
        """Methods whose activations are made by a network, those that only lend their seeds included."""
        return [name for name in self.needed_methods if name in self.needed_networks]

    @property
    def intermediates(self) -> list[str]:
        """What `all` makes before it evaluates."""
        return self._intermediates([*self.training_shards, *self.pseudo_mask_shards])

    @property
    def training_intermediates(self) -> list[str]:
        """What `train_all` makes: pseudo-masks of the images that networks learn from alone."""
        return self._intermediates(self.training_shards)

    def imported(self, kind: str) -> list[str]:
        """Methods whose `activations` or `seeds` are imported."""
        imports = self.settings.imports
        return [
            name for name in self.needed_methods if name in imports and getattr(imports[name], kind)
        ]

    def seed_chooser(self, method: str) -> str | None:
        """Rule that chooses the thresholds of a method's seeds: none for numbers and ready-made seeds."""
        if method in self.imported("seeds"):
            return None
        return self.settings.seed_settings(method).chosen_by

    def _shards_to_choose_on(self, *choosers: str | None) -> list[str]:
        """Shards by whose activations thresholds are chosen."""
        shards = {
            AUTO: self.training_shards,
            VALIDATION: self.shards(*self.settings.splits.thresholds),
        }
        return [shard for chooser in choosers if chooser in shards for shard in shards[chooser]]

    def _shards_with_seeds(self, refined: list[str]) -> dict[str, list[str]]:
        """Shards of which each method has seeds, given those of which there are refined activations."""
        own = self.training_shards if self.settings.boundary.enabled else []
        seeds = {name: [*self.activation_shards, *own] for name in self.methods}
        # A method learns from its source's seeds, and is given them wherever it has activations.
        for name in self._readers_first():
            for source in self._sources(name, Reads.SEEDS):
                read = [
                    *self.training_shards,
                    *self._shards_with_activations(name, seeds.get(name, []), refined),
                ]
                seeds.setdefault(source, []).extend(read)
        return seeds

    def _readers_first(self) -> list[str]:
        """Methods of this run and networks that they stand on, each before what it reads."""
        order: list[str] = []

        def place(name: str) -> None:
            for source in self._sources(name, Reads.SEEDS, Reads.NETWORK):
                place(source)
            if name not in order:
                order.append(name)

        for name in (*self.methods, *self.needed_networks):
            place(name)
        return order[::-1]

    def _shards_with_activations(
        self, method: str, seeds: list[str], refined: list[str]
    ) -> list[str]:
        """Shards of which a method has activations, given those of its seeds."""
        masks = refined if method in self.methods else []
        return [*seeds, *masks, *self._shards_to_choose_on(self.seed_chooser(method))]

    def _intermediates(self, masked: list[str]) -> list[str]:
        """All of them, if there are pseudo-masks of these shards."""
        refined = [*masked, *self._shards_to_choose_on(*self.sources)]
        files = [self.index, *self.features, *self._models(), *self._thresholds()]
        for name, shards in self._shards_with_seeds(refined).items():
            files += self._of_shards(name, "seeds", shards, ".zip")
            shards = self._shards_with_activations(name, shards, refined)
            files += self._of_shards(name, "activations", shards, ".safetensors")
        for name in self.methods:
            if self.settings.boundary.enabled:
                files += self._of_shards(name, "propagated", refined, ".safetensors")
            for source in self.sources:
                files += self._of_shards(name, f"{source}/pseudo_masks", masked, ".zip")
        return files

    def _models(self) -> list[str]:
        """Networks before the segmentation networks."""
        models = self.of_methods("model.safetensors", methods=self.needed_networks)
        if self.settings.boundary.enabled:
            models += self.of_methods("boundary", "model.safetensors")
        return models

    def _thresholds(self) -> list[str]:
        """Files of the thresholds that a rule chooses."""
        files = [
            file
            for source in self.chosen_sources
            for file in self.of_methods(source, "thresholds.json")
        ]
        for name in self.needed_methods:
            if chooser := self.seed_chooser(name):
                files += self.of_methods(chooser, "seed_thresholds.json", methods=[name])
        return files

    def _of_shards(self, method: str, place: str, shards: Iterable[str], suffix: str) -> list[str]:
        """Files of a method's shards, each once."""
        return [
            file
            for shard in dict.fromkeys(shards)
            for file in self.of_methods(place, shard + suffix, methods=[method])
        ]

    def _networks(self, imported: bool) -> list[str]:
        """Folders of the networks before segmentation that are imported, or of those that are trained."""
        named = list(self.needed_networks)
        if self.settings.boundary.enabled:
            named += [f"{method}/{BOUNDARY}" for method in self.methods]
        files = self.settings.checkpoints.files
        return [name for name in named if (name in files) == imported]

    def _chosen(self, chooser: str) -> list[str]:
        """Methods and places whose thresholds a rule chooses, "auto" or "validation"."""
        masks = self.methods if chooser in self.sources else []
        seeds = [name for name in self.needed_methods if self.seed_chooser(name) == chooser]
        return [f"{name}-thresholds" for name in masks] + [
            f"{name}-seed_thresholds" for name in seeds
        ]

    def _shards_of(self, *splits: str) -> str:
        """A pattern of all shards of some splits."""
        numbers = (name.rpartition("-")[2] for name in self.shards(*splits))
        return f"{_any(splits)}-{_any(numbers)}" if splits else ""

    @property
    def _sharded(self) -> dict[str, str]:
        """Patterns of shards: of all activations, evaluated ones, pseudo-masks, and predictions."""
        splits = self.settings.splits
        validation = splits.thresholds if self._chosen(VALIDATION) else ()
        propagated = validation if VALIDATION in self.sources else ()
        evaluated = splits.activations if self.has_masks else ()
        return {
            "made": self._shards_of(*splits.training, *splits.activations, *validation),
            "propagated": self._shards_of(*splits.training, *evaluated, *propagated),
            "masked": self._shards_of(*splits.training, *evaluated),
            "evaluated": self._shards_of(*evaluated),
            "predicted": self._shards_of(*splits.segmentation),
        }

    @property
    def job_patterns(self) -> list[str]:
        """Regular expressions of the names of all jobs, one or two for each rule."""
        shards = self._sharded
        trials, methods = _any(map(str, self.trials)), _any(self.methods)
        refined = _any(name for name in self.needed_methods if name not in self.imported("seeds"))
        learnt = methods if self.settings.boundary.enabled else ""
        trained = self._networks(imported=False)
        sources = _any(self.sources)
        full = [f"{FULL}-{TRUTH}"] if FULL in self.settings.methods else []
        networks = _any([*(f"{m}-{s}" for m in self.methods for s in self.sources), *full])
        truth = networks if self.has_masks else ""
        rows = [
            ("import_checkpoint", trials, _any(self._networks(imported=True))),
            (
                "cache_features",
                _any(self.feature_sets),
                self._shards_of(*self.settings.splits.training),
            ),
            ("train", trials, _any(name for name in self.needed_networks if name in trained)),
            ("infer", trials, _any(self.inferred), shards["made"]),
            ("import_activations", trials, _any(self.imported("activations")), shards["made"]),
            ("import_seeds", trials, _any(self.imported("seeds")), shards["made"]),
            ("refine_seeds", trials, refined, shards["made"]),
            ("choose_thresholds", trials, _any(self._chosen(AUTO))),
            ("validate_thresholds", trials, _any(self._chosen(VALIDATION))),
            (
                "train_boundary",
                trials,
                _any(m for m in self.methods if f"{m}/{BOUNDARY}" in trained),
            ),
            ("propagate", trials, learnt, shards["propagated"]),
            ("make_pseudo_masks", trials, methods, sources, shards["masked"]),
            ("train_segmentation", trials, networks),
            ("evaluate_segmentation", trials, networks, shards["predicted"]),
            ("sweep_thresholds", trials, methods, shards["evaluated"]),
            ("sweep_propagated", trials, learnt, shards["evaluated"]),
            ("evaluate_seeds", trials, methods, shards["evaluated"]),
            ("evaluate_masks", trials, methods, sources, "pseudo_masks", shards["evaluated"]),
            ("evaluate_masks", trials, truth, "segmentation", shards["predicted"]),
            ("record_figures", trials, truth),
        ]
        single = [f"{rule}/{rule}" for rule in SINGLE]
        return single + [f"{rule}/{'-'.join(parts)}" for rule, *parts in rows if all(parts)]

    @property
    def benchmark_flags(self) -> str:
        """Benchmarks of this configuration's jobs."""
        patterns = " ".join(map(shlex.quote, self.job_patterns))
        return f"--benchmarks {shlex.quote(self.path('benchmarks'))} --jobs {patterns}"


class ReportFiles:
    """Inputs of the report's rules."""

    def __init__(self, plan: Targets) -> None:
        self._plan = plan
        self._trial = str(plan.trials[0])

    @property
    def histories(self) -> list[str]:
        """Training tables of all networks that were trained here."""
        plan = self._plan
        elsewhere = {*plan.settings.imports, *plan.settings.checkpoints.files}
        trained = [
            method
            for method in plan.methods
            if method not in elsewhere and plan.settings.entry(method).trains
        ]
        histories = plan.of_methods("training.csv", methods=trained)
        if plan.settings.boundary.enabled:
            learnt = [name for name in plan.methods if f"{name}/{BOUNDARY}" not in elsewhere]
            histories += plan.of_methods(BOUNDARY, "training.csv", methods=learnt)
        return histories + [f"{folder}/training.csv" for folder in plan.segmentations]

    @property
    def activations(self) -> list[str]:
        """Activations of the trial whose images are shown."""
        return self._shown("activations", ".safetensors", self._plan.activation_shards)

    @property
    def sweeps(self) -> list[str]:
        """Sweeps of the trial whose images are shown; none without masks."""
        if not self._plan.has_masks:
            return []
        return self._shown("sweep", ".safetensors", self._plan.activation_shards)

    @property
    def seeds(self) -> list[str]:
        """Seeds of the trial whose images are shown."""
        return self._shown("seeds", ".zip", self._plan.activation_shards)

    @property
    def pseudo_masks(self) -> list[str]:
        """Pseudo-masks of the trial and the source that are shown."""
        plan = self._plan
        return self._shown(f"{plan.sources[0]}/pseudo_masks", ".zip", plan.pseudo_mask_shards)

    @property
    def predictions(self) -> list[str]:
        """Predictions of the networks of the trial and the source that are shown."""
        plan = self._plan
        shown = {plan.sources[0], TRUTH}
        return [
            f"{folder}/predictions/{shard}.zip"
            for folder in plan.segmentations
            if folder.startswith(plan.path(self._trial, "")) and folder.split("/")[-2] in shown
            for shard in plan.segmentation_shards
        ]

    @property
    def chosen_thresholds(self) -> list[str]:
        """Files of the thresholds that a rule chose."""
        plan = self._plan
        return [
            file
            for source in plan.chosen_sources
            for file in plan.of_methods(source, "thresholds.json")
        ]

    def _shown(self, place: str, suffix: str, shards: list[str]) -> list[str]:
        plan = self._plan
        shown = [shard for shard in shards if shard in plan.report_shards]
        return [
            plan.path(self._trial, method, place, shard + suffix)
            for method in plan.methods
            for shard in shown
        ]
