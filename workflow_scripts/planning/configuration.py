"""The whole configuration of a run: every stage's settings, and what ties them together.

Only the planning of the workflow imports this module; a stage imports the settings of its own. Sections of
methods (`train_cam`, `infer_cam`, their seeds and cores) are those of the methods that a configuration
speaks of: `configuration_model` finds them.
"""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import yaml
from pydantic import Field, ValidationError, create_model, field_validator, model_validator

from workflow_scripts.doors.dataset import DatasetSettings
from workflow_scripts.doors.door import load_plugins, place_of
from workflow_scripts.doors.method import METHODS, RESERVED, Method, Reads
from workflow_scripts.doors.segmenter import SegmenterSettings
from workflow_scripts.doors.threshold_rule import ThresholdSettings
from workflow_scripts.errors import InputError
from workflow_scripts.models.boundary_settings import TrainBoundarySettings
from workflow_scripts.segmenters.deeplab_v2 import DeepLabV2
from workflow_scripts.settings.base import Settings, overlaid, plain, validate
from workflow_scripts.settings.evaluation import (
    EvaluateSegmentationSettings,
    ReportSettings,
    SummarySettings,
    SweepSettings,
)
from workflow_scripts.settings.imports import (
    CheckpointSettings,
    ImportActivationsSettings,
    checkpoint_key,
)
from workflow_scripts.settings.refinement import (
    VALIDATION,
    Named,
    PropagateSettings,
    PseudoMaskSettings,
    SeedSettings,
    ValidationSettings,
)

FULL, TRUTH = "full", "truth"
# What a configuration that names no methods has, and what a variant is of if it does not say.
DEFAULT_METHODS, VARIANT_OF = ("cam", "amn"), "amn"
# Keys of a variant that are no settings of its training.
BASE, SEEDS_FROM = "method", "seeds_from"
TRAIN, INFER = "train_", "infer_"
METHOD_CORES = 8
# Rules of version 0.1, which profiles may still name, and what they are called.
FORMER_RULES = {
    "train_cam": "train",
    "train_amn": "train",
    "infer_cam": "infer",
    "infer_amn": "infer",
}
CONFIGURATION_NAME = "config.yaml"
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_]*")


def source_name(threshold: float | Named) -> str:
    """Folder of what is made at a threshold: "t0.50", "auto" or "validation"."""
    return threshold if isinstance(threshold, str) else f"t{threshold:.2f}"


class SplitSettings(Settings):
    """Which splits of the index serve for what."""

    training: tuple[str, ...] = Field(
        ("train",), min_length=1, description="splits that the networks learn from"
    )
    activations: tuple[str, ...] = Field(
        ("train", "val"),
        min_length=1,
        description="splits whose activations and pseudo-masks are evaluated",
    )
    segmentation: tuple[str, ...] = Field(
        ("val",), description="splits on which the segmentation network is evaluated"
    )
    thresholds: tuple[str, ...] = Field(
        (),
        description="splits on whose masks thresholds named `validation` are chosen; never those "
        "that are trained or reported on",
    )


class BoundarySettings(Settings):
    """Boundary refinement (IRN) between activations and pseudo-masks."""

    enabled: bool = Field(False, description="propagate activations over learnt class boundaries")
    train: TrainBoundarySettings = TrainBoundarySettings()
    propagate: PropagateSettings = PropagateSettings()


class ImportedMethod(ImportActivationsSettings):
    """Another method's results, as one more method: its activations, or its seeds."""

    activations: str | None = Field(
        None,
        description="folder of arrays, `{id}.npy` or `{id}.npz` for each image: [labels or classes, "
        "height, width] at any resolution",
    )
    seeds: str | None = Field(
        None,
        description="folder of masks, `{id}.png` for each image: 0 background, i the i-th class, 255 "
        "ignored",
    )
    refine_seeds: SeedSettings = SeedSettings()

    @model_validator(mode="after")
    def _one_folder(self) -> Self:
        if (self.activations is None) == (self.seeds is None):
            raise ValueError("give one of `activations` (arrays) and `seeds` (masks)")
        return self


class ThreadSettings(Settings):
    """Processor cores of the heavy jobs; Snakemake gives a job no more than there are."""

    boundary: int = Field(8, ge=1, description="cores to train the boundary network")
    segmentation: int = Field(8, ge=1, description="cores to train a segmentation network")
    inference: int = Field(4, ge=1, description="cores to make activations or predictions")
    refinement: int = Field(2, ge=1, description="cores for dense CRF and threshold sweeps")


class WorkflowSettings(Settings):
    """Everything that a configuration file can say."""

    run: str = Field("demo", description="name of the run; its results lie in results/<run>")
    results: str = Field("results", description="folder of all results")
    dataset: DatasetSettings = Field(
        description="kind of the dataset, and what such a one can be told (see Datasets)"
    )
    masks: bool | None = Field(
        None,
        description="whether the dataset has ground-truth masks to evaluate with; left out, a folder "
        "dataset has them if there are any in its folder `masks`, the other kinds do",
    )
    splits: SplitSettings = SplitSettings()
    plugins: tuple[str, ...] = Field(
        (),
        description="Python files with methods, backbones, segmenters, datasets or threshold rules of one's "
        "own; they run with the rights of whoever starts the workflow",
    )
    methods: tuple[str, ...] = Field(
        DEFAULT_METHODS,
        min_length=1,
        description="names of methods, of `variants` and of `imports`, the baseline of comparisons "
        "first, and `full`, the fully supervised reference",
    )
    variants: dict[str, dict[str, Any]] = Field(
        {},
        description="further methods: name → values that differ from those of the training of `method` (amn "
        "if left out); `seeds_from` names the method whose seeds, or network, it learns from",
    )
    imports: dict[str, ImportedMethod] = Field(
        {}, description="methods whose activations or seeds come from elsewhere: name → folder"
    )
    thresholds: tuple[float | Named, ...] = Field(
        (0.5,),
        min_length=1,
        description="background thresholds of the pseudo-masks; a segmentation network for each. "
        "Numbers; `auto`: chosen by a rule that sees no mask; `validation`: the best one on the "
        "masks of `splits.thresholds`",
    )
    trials: int = Field(1, ge=1, description="repetitions with other random seeds")
    seed: int = Field(0, ge=0, description="random seed of the first trial")
    shards: int = Field(
        1, ge=1, le=9999, description="parts that a split is cut into for the cluster"
    )
    one_machine: bool = Field(
        False,
        description="all jobs share one machine: no split is cut into more parts than its cores and GPUs "
        "work on at a time, `shards` is a limit; the profile `local` says so, and a run keeps its parts",
    )
    checkpoints: CheckpointSettings = CheckpointSettings()
    threads: ThreadSettings = ThreadSettings()
    refine_seeds: Settings = Settings()
    choose_thresholds: ThresholdSettings = ThresholdSettings()
    validate_thresholds: ValidationSettings = ValidationSettings()
    boundary: BoundarySettings = BoundarySettings()
    pseudo_masks: PseudoMaskSettings = PseudoMaskSettings()
    sweep: SweepSettings = SweepSettings()
    train_segmentation: SegmenterSettings = DeepLabV2()
    evaluate_segmentation: EvaluateSegmentationSettings = EvaluateSegmentationSettings()
    summary: SummarySettings = SummarySettings()
    report: ReportSettings = ReportSettings()

    @field_validator("run")
    @classmethod
    def _plain_name(cls, name: str) -> str:
        if not NAME.fullmatch(name):
            raise ValueError("expected letters, digits and underscores: it names a folder")
        return name

    @field_validator("thresholds")
    @classmethod
    def _in_range(cls, thresholds: tuple[float | Named, ...]) -> tuple[float | Named, ...]:
        for threshold in thresholds:
            if not isinstance(threshold, str) and not 0 < threshold < 1:
                raise ValueError(f"thresholds lie between 0 and 1, not {threshold}")
        names = [source_name(threshold) for threshold in thresholds]
        if len(set(names)) < len(names):
            raise ValueError(f"thresholds must differ in their first two digits: {names}")
        return thresholds

    @model_validator(mode="after")
    def _known_methods(self) -> Self:
        entries = METHODS.names()
        for field, names in (("variants", [*self.variants]), ("imports", [*self.imports])):
            for name in names:
                if not NAME.fullmatch(name) or name in RESERVED:
                    raise ValueError(f"{field}: `{name}` cannot be a name of one")
                if name in entries:
                    raise ValueError(
                        f"{field}: `{name}` cannot be a name of one: it is a method; name yours otherwise"
                    )
        both = sorted(self.variants.keys() & self.imports.keys())
        if both:
            raise ValueError(f"`{both[0]}` is a name in `variants` and in `imports`; rename one")
        for name, values in self.variants.items():
            if values.get(BASE, VARIANT_OF) not in entries:
                raise ValueError(f"variants.{name}.{BASE}: expected {' or '.join(entries)}")
            self.training(name)
            self._check_source(name)
        known = (*entries, FULL, *self.variants, *self.imports)
        for method in self.methods:
            if method not in known:
                raise ValueError(f"methods: `{method}` is none of {', '.join(known)}")
        if len(set(self.methods)) < len(self.methods):
            raise ValueError("methods: one is named twice")
        return self

    def _check_source(self, variant: str) -> None:
        """See that a variant learns from what has seeds, or a network of the kind that it starts from."""
        key, source = f"variants.{variant}.{SEEDS_FROM}", self.source(variant)
        entry = self.entry(variant)
        if SEEDS_FROM not in self.variants[variant]:
            return
        if entry.reads is Reads.NOTHING:
            raise ValueError(
                f"{key}: `{entry.name}` learns from images and labels alone; take it out"
            )
        others = [name for name in self.variants if name != variant]
        given = [entry.source, *(name for name in others if self.base(name) == entry.source)]
        if entry.reads is Reads.SEEDS:
            given = [*METHODS.names(), *self.imports, *others]
        if source not in given:
            raise ValueError(f"{key}: expected {' or '.join(given)}")
        chain = [variant]
        while source is not None and source not in self.imports:
            if source in chain:
                raise ValueError(f"{key}: {' learns from '.join([*chain, source])}, in a circle")
            chain.append(source)
            source = self.source(source)

    @model_validator(mode="after")
    def _checkpoints_have_a_network(self) -> Self:
        networks = [*METHODS.names(), *self.variants]
        spread = [*networks, *self.imports]
        for network, file in self.checkpoints.files.items():
            method, _, boundary = network.partition("/")
            what = f"{checkpoint_key(network)}: `{file}` cannot be used:"
            if boundary and not self.boundary.enabled:
                raise ValueError(f"{what} boundary.enabled is false; make it true, or take it out")
            if method in self.imports and not boundary:
                raise ValueError(f"{what} `{method}` is one of `imports`, which have no network")
            if method not in (spread if boundary else networks):
                known = ", ".join(spread if boundary else networks)
                raise ValueError(f"{what} `{method}` is none of {known}")
            sources = [] if boundary else map(self.source, self.trained)
            if method not in (*self.methods, *sources):
                raise ValueError(
                    f"{what} `methods` does not have `{method}`; add it, or take it out"
                )
        return self

    @model_validator(mode="after")
    def _validation_is_apart(self) -> Self:
        seeds = [getattr(self.refine_seeds, name) for name in type(self.refine_seeds).model_fields]
        seeds += [method.refine_seeds for method in self.imports.values()]
        named = {*self.thresholds, *(settings.chosen_by for settings in seeds)}
        if VALIDATION not in named:
            return self
        splits = self.splits
        used = {*splits.training, *splits.activations, *splits.segmentation}
        if not splits.thresholds:
            raise ValueError(
                "a threshold is `validation`: name a split with masks in splits.thresholds, or use auto"
            )
        for split in splits.thresholds:
            if split in used:
                raise ValueError(
                    f"splits.thresholds: `{split}` is also trained or reported on; thresholds are "
                    "chosen on its masks, so that its figures would be an oracle's"
                )
        if self.masks is False:
            raise ValueError("a threshold is `validation`, but the dataset has no masks; use auto")
        return self

    @property
    def with_activations(self) -> list[str]:
        """Methods that have activations: all but `full`."""
        return [name for name in self.methods if name != FULL]

    @property
    def trained(self) -> list[str]:
        """Methods whose activations a network makes: all but imported ones and `full`."""
        return [name for name in self.with_activations if name not in self.imports]

    def asked_for(self, method: str | None) -> str:
        """The method that a command by hand is to use: `--method`, or the last that has activations.

        Raises:
            InputError: The run does not have it.
        """
        known = self.with_activations
        if not known:
            raise InputError(f"the run has no method but `{FULL}`; give --run another one")
        if method is not None and method not in known:
            raise InputError(
                f"--method {method}: the run has {', '.join(known)}; name one of these"
            )
        return method or known[-1]

    def base(self, method: str) -> str:
        """The entry that a method is: that of a variant, else itself."""
        return (
            str(self.variants[method].get(BASE, VARIANT_OF)) if method in self.variants else method
        )

    def entry(self, method: str) -> type[Method]:
        """The same as the class."""
        return METHODS.get(self.base(method))

    def training(self, method: str) -> Settings:
        """Settings of the training of a method or variant.

        Raises:
            InputError: A variant's values are not valid.
        """
        base: Settings = getattr(self, TRAIN + self.base(method))
        own = {
            k: v for k, v in self.variants.get(method, {}).items() if k not in (BASE, SEEDS_FROM)
        }
        if not own:
            return base
        return validate(self.entry(method).Train, overlaid(base, own), f"variants.{method}")

    def inference(self, method: str) -> Settings:
        """Settings of the activations of a method or variant."""
        found: Settings = getattr(self, INFER + self.base(method))
        return found

    def source(self, method: str) -> str | None:
        """Method whose seeds, or network, this one learns from; None where it reads nothing."""
        entry = self.entry(method)
        if entry.reads is Reads.NOTHING:
            return None
        return str(self.variants.get(method, {}).get(SEEDS_FROM, entry.source))

    def seed_settings(self, method: str) -> SeedSettings:
        """Settings of a method's seeds."""
        if method in self.imports:
            return self.imports[method].refine_seeds
        found: SeedSettings = getattr(self.refine_seeds, self.base(method))
        return found


def _keys(values: Mapping[str, Any], field: str) -> list[str]:
    """Keys of a section that should be a mapping; validation says so if it is none."""
    section = values.get(field)
    return [key for key in section if isinstance(key, str)] if isinstance(section, Mapping) else []


def mentioned_methods(values: Mapping[str, Any]) -> list[str]:
    """Entries that a configuration speaks of, in any section, and those that they read from."""
    methods = values.get("methods")
    given = methods if isinstance(methods, (list, tuple)) else ()
    named = [*DEFAULT_METHODS, *(name for name in given if isinstance(name, str))]
    for key in (key for key in values if isinstance(key, str)):
        named += [key.removeprefix(start) for start in (TRAIN, INFER) if key.startswith(start)]
    named += [
        key for field in ("refine_seeds", "checkpoints", "threads") for key in _keys(values, field)
    ]
    variants = values.get("variants")
    for variant in variants.values() if isinstance(variants, Mapping) else ():
        if isinstance(variant, Mapping):
            named += [str(variant.get(BASE, VARIANT_OF)), str(variant.get(SEEDS_FROM, VARIANT_OF))]
    existing = METHODS.names()
    found: list[str] = []
    while named:
        name = named.pop(0)
        if name in existing and name not in found:
            found.append(name)
            entry = METHODS.get(name)
            named += [entry.source] if entry.reads is not Reads.NOTHING else []
    return found


def _fields(definitions: Mapping[str, tuple[Any, Any]]) -> dict[str, Any]:
    """Fields for `create_model`, whose types mypy cannot follow."""
    return dict(definitions)


def configuration_model(methods: Sequence[str]) -> type[WorkflowSettings]:
    """The model of a configuration with the sections of some methods.

    Raises:
        InputError: A method's settings cannot be made; names its file.
    """
    entries = {name: METHODS.get(name) for name in methods}
    try:
        seeds = create_model(
            "SeedsByMethod",
            __base__=Settings,
            __doc__="Thresholds of the seeds, for each method's activations.",
            **_fields({name: (SeedSettings, entry.seeds) for name, entry in entries.items()}),
        )
        cores = create_model(
            "ThreadSettings",
            __base__=ThreadSettings,
            __doc__=ThreadSettings.__doc__,
            **_fields(
                {
                    name: (int, Field(METHOD_CORES, ge=1, description=f"cores to train {name}"))
                    for name in entries
                }
            ),
        )
        fields: dict[str, Any] = {}
        for name, entry in entries.items():
            fields[TRAIN + name] = (entry.Train, entry.Train())
            fields[INFER + name] = (entry.Infer, entry.Infer())
    except ValidationError as error:
        raise InputError(
            f"{place_of(entries[name])}: method `{name}`: the defaults of its settings are not valid: "
            f"{plain(error)}"
        ) from None
    return create_model(
        "WorkflowSettings",
        __base__=WorkflowSettings,
        __doc__=WorkflowSettings.__doc__,
        refine_seeds=(seeds, seeds()),
        threads=(cores, cores()),
        **fields,
    )


def read_configuration(values: Mapping[str, Any], where: str) -> WorkflowSettings:
    """Load a configuration's plug-ins and validate it.

    Args:
        values: Its content.
        where: Where it is from, for messages.

    Raises:
        InputError: A plug-in cannot be used, or something is not valid; one screen names all of it.
    """
    plugins = values.get("plugins") or ()
    if isinstance(plugins, str):
        raise InputError(f"{where}: plugins: expected a list of files: `plugins: [{plugins}]`")
    if isinstance(plugins, (list, tuple)):
        load_plugins([file for file in plugins if isinstance(file, str)])
    return validate(configuration_model(mentioned_methods(values)), dict(values), where)


def configuration_of_run(run: Path) -> WorkflowSettings:
    """The resolved configuration of a run.

    Raises:
        InputError: The folder is no run, or one of a version that did not record it.
    """
    path = run / CONFIGURATION_NAME
    if not run.is_dir():
        raise InputError(f"{run}: no such folder; give the folder of a run, results/<run>")
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(
            f"{path}: no such file. Finish the run, `snakemake all`; a run of an older version"
            " writes it when the workflow is run again."
        ) from None
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise InputError(
            f"{path}: not readable ({error}); delete it and run the workflow"
        ) from None
    if not isinstance(values, dict):
        raise InputError(f"{path}: holds no configuration; delete it and run the workflow")
    try:
        return read_configuration(values, str(path))
    except InputError as error:
        raise InputError(
            f"{error}\nIt was written by another version of the workflow: run the workflow again"
        ) from None
