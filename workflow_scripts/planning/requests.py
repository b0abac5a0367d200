"""What rules ask for that depends on wildcards: inputs, flags of their stages, digests of the code."""

import json
import re
import shlex
from collections.abc import Callable, Iterable
from functools import cached_property
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from workflow_scripts.datasets.files import MASK_SUFFIXES, Folder
from workflow_scripts.doors.backbone import BACKBONES
from workflow_scripts.doors.method import METHODS, Reads
from workflow_scripts.doors.usage import Use, code_of, plug_ins, uses
from workflow_scripts.errors import InputError
from workflow_scripts.fingerprint import file_digests
from workflow_scripts.models.feature_settings import stored_features
from workflow_scripts.planning.configuration import TRAIN, TRUTH
from workflow_scripts.planning.run_layout import NOTHING, Layout, Wildcards
from workflow_scripts.settings.base import render_flags
from workflow_scripts.settings.imports import BOUNDARY, checkpoint_key
from workflow_scripts.settings.refinement import AUTO, VALIDATION
from workflow_scripts.storage.file_state import file_state


def _existing(path: str | None) -> list[str]:
    """A file that is missing is reported by the stage, which says what to do."""
    return [path] if path is not None and Path(path).is_file() else []


def described_backbone_name(file: Path) -> str | None:
    """Name of the backbone of a network that this workflow wrote, read without torch; else None."""
    try:
        with safe_open(file, framework="numpy") as tensors:
            description = json.loads((tensors.metadata() or {})["description"])
        return str(description["backbone"]["name"])
    except (SafetensorError, OSError, KeyError, ValueError, TypeError):
        # A published state dict; the stage says what is wrong with anything else.
        return None


class Requests(Layout):
    """A layout with what its rules ask for."""

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
        return [str(path) for path in self.settings.dataset.tables()]

    def weights(self, *field: str) -> Callable[[Wildcards], list[str]]:
        """The file of weights that the network of a training stage starts from, if it is one.

        Args:
            field: Names of the stage's settings in the configuration.
        """

        def file(wildcards: Wildcards) -> list[str]:
            return _existing(self._section(*field).backbone.file)

        return file

    def _section(self, *field: str) -> Any:
        """Settings below a field of the configuration."""
        settings: Any = self.settings
        for name in field:
            settings = getattr(settings, name)
        return settings

    def method_weights(self, wildcards: Wildcards) -> list[str]:
        """The same for the network of {method}; none where it starts from another method's."""
        backbone = getattr(self.settings.training(wildcards.method), "backbone", None)
        return _existing(backbone.file) if backbone is not None else []

    @property
    def stored_features(self) -> str:
        """Folders of stored features, as a pattern of the wildcard {features}."""
        return "|".join(map(re.escape, self.feature_sets)) or NOTHING

    def _features(self, settings: Any, section: str) -> list[str]:
        """Shards that a training learns from in the place of images; none where it sees images."""
        stored = stored_features(settings, section)
        folder = () if stored is None else ("features", stored.folder)
        return [
            self.path(*folder, f"{shard}.safetensors") for shard in self.training_shards if folder
        ]

    def method_features(self, wildcards: Wildcards) -> list[str]:
        """The same for the training of {method}."""
        return self._features(self.settings.training(wildcards.method), TRAIN + wildcards.method)

    def segmentation_features(self, wildcards: Wildcards) -> list[str]:
        """The same for segmentation networks."""
        return self._features(self.settings.train_segmentation, "train_segmentation")

    @staticmethod
    def feature_input_flags(wildcards: Wildcards, input: Any) -> str:
        """`--features …`, where a training learns from stored ones."""
        return " ".join(["--features", *map(shlex.quote, input.features)] if input.features else [])

    def feature_flags(self, wildcards: Wildcards) -> str:
        """Settings of the stored {features}."""
        settings = self.feature_sets[wildcards.features]
        return render_flags(settings) + self._plugin_flag(uses(settings))

    def feature_code(self, wildcards: Wildcards) -> dict[str, str]:
        """Digests of the code that computes them."""
        return code_of("cache_features", uses(self.feature_sets[wildcards.features]))

    def feature_weights(self, wildcards: Wildcards) -> list[str]:
        """The file of weights of their network, if it is one."""
        return _existing(self.feature_sets[wildcards.features].backbone.file)

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
        """Seeds of all training shards that {method} learns from; none if it reads no seeds."""
        sources = self._sources(wildcards.method, Reads.SEEDS)
        return [file for name in sources for file in self._training_seeds(wildcards.trial, name)]

    def source_network(self, wildcards: Wildcards) -> list[str]:
        """The network that {method} starts from; none if it reads none."""
        sources = self._sources(wildcards.method, Reads.NETWORK)
        return [self.path(str(wildcards.trial), name, "model.safetensors") for name in sources]

    def source_seeds(self, wildcards: Wildcards) -> list[str]:
        """Seeds of {shard} made by the method whose seeds {method} learnt from; none if it reads none."""
        sources = self._sources(wildcards.method, Reads.SEEDS)
        trial, shard = str(wildcards.trial), wildcards.shard
        return [self.path(trial, name, "seeds", f"{shard}.zip") for name in sources]

    def test_predictions(self, wildcards: Wildcards) -> list[str]:
        """Predictions of one network for the split `test`, whose masks nobody here has."""
        folder = self.path(str(wildcards.trial), wildcards.method, wildcards.source, "segmentation")
        return [f"{folder}/predictions/{shard}.zip" for shard in self.shards("test")]

    def imported_folder(self, wildcards: Wildcards) -> str:
        """Folder that holds what is imported as {method}."""
        method = self.settings.imports[wildcards.method]
        return str(method.activations or method.seeds)

    def region_folder(self, wildcards: Wildcards) -> list[str]:
        """Folder of the regions that are merged into pseudo-masks, if there is one."""
        folder = self.settings.pseudo_masks.regions.folder
        return [folder] if folder is not None else []

    @cached_property
    def _state_of_regions(self) -> list[str]:
        """Read once: all shards ask for it."""
        suffixes = MASK_SUFFIXES | {".json"}
        return [Folder.scan(Path(one), suffixes).state() for one in self.region_folder(None)]

    def region_state(self, wildcards: Wildcards) -> list[str]:
        """Number, names, sizes and times of the files of regions; the folder's own time says little.

        Raises:
            InputError: A file vanished meanwhile.
        """
        try:
            return self._state_of_regions
        except OSError as error:
            raise InputError(
                f"pseudo_masks.regions.folder: {error.filename}: {error.strerror}; leave the folder alone "
                "while a run is planned"
            ) from None

    @property
    def judged_split(self) -> str:
        """The split whose pseudo-masks are judged: the first that networks learn from."""
        return self.settings.splits.training[0]

    def _judged(self) -> dict[str, str]:
        """Folder of each set of pseudo-masks by its name: trial/method/source."""
        places = [
            (str(trial), method, source)
            for trial in self.trials
            for method in self.methods
            for source in self.sources
        ]
        return {"/".join(place): self.path(*place, "pseudo_masks") for place in places}

    @property
    def judged(self) -> list[str]:
        """What is predicted of all pseudo-masks, where there are any."""
        return [self.path("judged", "judged.json")] if self._judged() else []

    @property
    def judged_tables(self) -> list[str]:
        """The same as tables, from the same job."""
        names = ("sets.csv", "classes.csv", "images.csv")
        return [self.path("judged", name) for name in names] if self._judged() else []

    @property
    def judged_masks(self) -> list[str]:
        """Shards of all pseudo-masks that are judged."""
        shards = self.shards(self.judged_split)
        return [f"{folder}/{shard}.zip" for folder in self._judged().values() for shard in shards]

    @property
    def judged_flags(self) -> str:
        """Sets, their names, their split and its shards, as flags: shards of other cuts may lie there too."""
        sets = self._judged()
        names, folders = (" ".join(map(shlex.quote, words)) for words in (sets, sets.values()))
        split = f"--split {self.judged_split} --shards {' '.join(self.shards(self.judged_split))}"
        return f"--masks {folders} --names {names} {split}"

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
        settings = self._section(*field)
        return render_flags(settings) + self._plugin_flag(uses(settings))

    @staticmethod
    def _plugin_flag(used: Iterable[Use]) -> str:
        """`--plugins …` for the entries that are used, empty if none of them is a plug-in's."""
        files = " ".join(shlex.quote(str(file)) for file in plug_ins(used))
        return f" --plugins {files}" if files else ""

    @property
    def configuration(self) -> str:
        """The whole resolved configuration, as JSON."""
        return self.settings.model_dump_json()

    @property
    def dataset_flags(self) -> str:
        """The dataset's kind, and its settings as flags."""
        dataset = self.settings.dataset
        flags = render_flags(dataset, exclude=frozenset({"kind"}))
        return f"{dataset.kind} {flags}{self._plugin_flag(uses(dataset))}"

    def dataset_state(self, wildcards: Wildcards) -> dict[str, str]:
        """What a dataset that is already here consists of; a change of it makes the index anew."""
        try:
            return self.settings.dataset.state()
        except OSError as error:
            # What cannot be read is left to the stage, which says so.
            return {str(error.filename): f"not readable: {error.strerror}"}

    @staticmethod
    def weights_state(files: Callable[[Wildcards], list[str]]) -> Callable[[Wildcards], list[str]]:
        """Size and time of the file of weights that a network starts from, if it is one.

        A function of the wildcards alone: Snakemake does not notice changes of what a parameter derives
        from `input`.
        """

        def state(wildcards: Wildcards) -> list[str]:
            return [file_state(Path(path)) for path in files(wildcards)]

        return state

    def checkpoint_flags(self, wildcards: Wildcards) -> str:
        """What kind of network the file of {network} is to hold, and the key that names the file."""
        method, _, boundary = wildcards.network.partition("/")
        kind = "irn" if boundary else self.settings.base(method)
        flags = f"--kind {kind} --key {checkpoint_key(wildcards.network)}"
        return flags + self._plugin_flag(self._uses_of_import(wildcards.network))

    def checkpoint_code(self, wildcards: Wildcards) -> dict[str, str]:
        """Digests of the code that imports {network}."""
        return code_of("import_checkpoint", self._uses_of_import(wildcards.network))

    def _uses_of_import(self, network: str) -> list[Use]:
        """Entries that an imported network is made of: its method, and the backbone that its file names."""
        method, _, boundary = network.partition("/")
        found = [] if boundary else [Use(METHODS, self.settings.base(method))]
        backbone = described_backbone_name(Path(self.settings.checkpoints.files[network]))
        return [*found, *([Use(BACKBONES, backbone)] if backbone else [])]

    def base(self, wildcards: Wildcards) -> str:
        """The entry that {method} is: a variant's, or itself."""
        return self.settings.base(wildcards.method)

    def training_threads(self, wildcards: Wildcards) -> int:
        """Cores to train {method}."""
        cores: int = getattr(self.settings.threads, self.base(wildcards))
        return cores

    def _uses(self, method: str) -> list[Use]:
        """Entries that a method's network is made of, its sources' included: their backbone may be its."""
        found: list[Use] = []
        for name in self._with_sources([method]):
            if name in self.settings.checkpoints.files:
                found += self._uses_of_import(name)
            else:
                found += [
                    Use(METHODS, self.settings.base(name)),
                    *uses(self.settings.training(name)),
                ]
        return found

    def method_flags(self, wildcards: Wildcards) -> str:
        """Settings of the training of {method}."""
        settings = self.settings.training(wildcards.method)
        return render_flags(settings) + self._plugin_flag(self._uses(wildcards.method))

    def inference_flags(self, wildcards: Wildcards) -> str:
        """Settings of the activations of {method}."""
        settings = self.settings.inference(wildcards.method)
        return render_flags(settings) + self._plugin_flag(self._uses(wildcards.method))

    def source_flags(self, wildcards: Wildcards, input: Any) -> str:
        """What {method} learns from beside images and labels: `--seeds …`, `--source …` or nothing."""
        seeds, source = (
            [shlex.quote(file) for file in files] for files in (input.seeds, input.source)
        )
        words = ["--seeds", *seeds] if seeds else []
        return " ".join([*words, *(["--source", *source] if source else [])])

    def seed_input_flags(self, wildcards: Wildcards, input: Any) -> str:
        """Seeds of the shard, where {method} learnt from such."""
        return " ".join(["--seeds", *map(shlex.quote, input.seeds)] if input.seeds else [])

    def propagation_flags(self, wildcards: Wildcards) -> str:
        """Settings of the random walk, with what the boundary network stands on."""
        used = self._boundary_uses(wildcards.method)
        return render_flags(self.settings.boundary.propagate) + self._plugin_flag(used)

    def _boundary_uses(self, method: str) -> list[Use]:
        """Entries that a method's boundary network is made of."""
        network = f"{method}/{BOUNDARY}"
        if network in self.settings.checkpoints.files:
            return self._uses_of_import(network)
        return uses(self.settings.boundary.train)

    def propagation_code(self, wildcards: Wildcards) -> dict[str, str]:
        """Digests of the code of the random walk over the boundaries of {method}."""
        return code_of("propagate", self._boundary_uses(wildcards.method))

    @property
    def prediction_flags(self) -> str:
        """Settings of the test of segmentation networks."""
        used = uses(self.settings.train_segmentation)
        return render_flags(self.settings.evaluate_segmentation) + self._plugin_flag(used)

    def method_code(self, stage: str) -> Callable[[Wildcards], dict[str, str]]:
        """Digests of the code of a stage that works with {method}."""

        def digests(wildcards: Wildcards) -> dict[str, str]:
            return code_of(stage, self._uses(wildcards.method))

        return digests

    def seed_flags(self, wildcards: Wildcards) -> str:
        """Settings of the seeds of {method}."""
        return render_flags(self.settings.seed_settings(wildcards.method))

    @property
    def propagated_sweep_flags(self) -> str:
        """Settings of the sweep of propagated activations, refined if their pseudo-masks are."""
        sweep, masks = self.settings.sweep, self.settings.pseudo_masks
        refined = () if masks.refinement == "none" else sweep.refined_thresholds
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

    def code(self, stage: str, *field: str) -> Callable[[Wildcards], dict[str, str]]:
        """Digests of the code that a stage runs, as a parameter of its rule.

        They are made when a job asks for them: the Snakemake inside a cluster's job runs one stage alone.

        Args:
            stage: Name of the stage module.
            field: Names of settings in the configuration whose entries the stage uses.
        """

        def digests(wildcards: Wildcards) -> dict[str, str]:
            return code_of(stage, uses(self._section(*field)) if field else [])

        return digests

    @staticmethod
    def assets(files: Iterable[Path]) -> dict[str, str]:
        """Digests of what is no code, such as captions."""
        return file_digests(files)
