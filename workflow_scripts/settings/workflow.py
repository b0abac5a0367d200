"""The whole configuration of a run: every stage's settings, and what ties them together.

Only the planning of the workflow imports this module; a stage imports the settings of its own.
"""

import re
from typing import Annotated, Any, Self

from pydantic import Field, field_validator, model_validator

from workflow_scripts.datasets.coco14 import Coco14DatasetSettings
from workflow_scripts.datasets.demo import DemoDatasetSettings
from workflow_scripts.datasets.folder import FolderDatasetSettings
from workflow_scripts.datasets.voc12 import Voc12DatasetSettings
from workflow_scripts.settings.amn import InferAmnSettings, TrainAmnSettings
from workflow_scripts.settings.base import Settings, merge, validate
from workflow_scripts.settings.boundary import PropagateSettings, TrainBoundarySettings
from workflow_scripts.settings.cam import InferCamSettings, TrainCamSettings
from workflow_scripts.settings.checkpoints import CheckpointSettings, checkpoint_key
from workflow_scripts.settings.evaluation import SummarySettings, SweepSettings
from workflow_scripts.settings.imports import ImportActivationsSettings
from workflow_scripts.settings.pseudo_masks import PseudoMaskSettings
from workflow_scripts.settings.report import ReportSettings
from workflow_scripts.settings.seeds import SeedSettings
from workflow_scripts.settings.segmentation import (
    EvaluateSegmentationSettings,
    TrainSegmentationSettings,
)
from workflow_scripts.settings.thresholds import (
    VALIDATION,
    Named,
    ThresholdSettings,
    ValidationSettings,
)

CAM, AMN, FULL = "cam", "amn", "full"
TRUTH = "truth"
SEEDS_FROM = "seeds_from"
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_]*")

Dataset = Annotated[
    DemoDatasetSettings | Voc12DatasetSettings | Coco14DatasetSettings | FolderDatasetSettings,
    Field(discriminator="kind"),
]


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


class SeedsBySource(Settings):
    """Thresholds of the seeds, for the CAM's activations and for AMN's."""

    cam: SeedSettings = SeedSettings(foreground_threshold=0.30, background_threshold=0.05)
    amn: SeedSettings = SeedSettings(foreground_threshold=0.45, background_threshold=0.15)


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

    cam: int = Field(8, ge=1, description="cores to train the classifier")
    amn: int = Field(8, ge=1, description="cores to train AMN")
    boundary: int = Field(8, ge=1, description="cores to train the boundary network")
    segmentation: int = Field(8, ge=1, description="cores to train a segmentation network")
    inference: int = Field(4, ge=1, description="cores to make activations or predictions")
    refinement: int = Field(2, ge=1, description="cores for dense CRF and threshold sweeps")


class WorkflowSettings(Settings):
    """Everything that a configuration file can say."""

    run: str = Field("demo", description="name of the run; its results lie in results/<run>")
    results: str = Field("results", description="folder of all results")
    dataset: Dataset
    masks: bool | None = Field(
        None,
        description="whether the dataset has ground-truth masks to evaluate with; left out, a folder "
        "dataset has them if there are any in its folder `masks`, the other kinds do",
    )
    splits: SplitSettings = SplitSettings()
    methods: tuple[str, ...] = Field(
        (CAM, AMN),
        min_length=1,
        description="cam, amn, names of `variants` and of `imports`, and `full`, the fully supervised "
        "reference",
    )
    variants: dict[str, dict[str, Any]] = Field(
        {},
        description="further AMN methods: name → values that differ from `train_amn`; `seeds_from` "
        "names the method whose seeds it learns from (cam, or one of `imports`)",
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
    checkpoints: CheckpointSettings = CheckpointSettings()
    threads: ThreadSettings = ThreadSettings()
    train_cam: TrainCamSettings = TrainCamSettings()
    infer_cam: InferCamSettings = InferCamSettings()
    refine_seeds: SeedsBySource = SeedsBySource()
    choose_thresholds: ThresholdSettings = ThresholdSettings()
    validate_thresholds: ValidationSettings = ValidationSettings()
    train_amn: TrainAmnSettings = TrainAmnSettings()
    infer_amn: InferAmnSettings = InferAmnSettings()
    boundary: BoundarySettings = BoundarySettings()
    pseudo_masks: PseudoMaskSettings = PseudoMaskSettings()
    sweep: SweepSettings = SweepSettings()
    train_segmentation: TrainSegmentationSettings = TrainSegmentationSettings()
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
        for field, names in (("variants", [*self.variants]), ("imports", [*self.imports])):
            for name in names:
                if not NAME.fullmatch(name) or name in (CAM, AMN, FULL):
                    raise ValueError(f"{field}: `{name}` cannot be a name of one")
        both = sorted(self.variants.keys() & self.imports.keys())
        if both:
            raise ValueError(f"`{both[0]}` is a name in `variants` and in `imports`; rename one")
        for name in self.variants:
            self.amn_settings(name)
            if self.seeds_source(name) not in (CAM, *self.imports):
                given = (CAM, *self.imports)
                raise ValueError(f"variants.{name}.{SEEDS_FROM}: expected {' or '.join(given)}")
        known = (CAM, AMN, FULL, *self.variants, *self.imports)
        for method in self.methods:
            if method not in known:
                raise ValueError(f"methods: `{method}` is none of {', '.join(known)}")
        if len(set(self.methods)) < len(self.methods):
            raise ValueError("methods: one is named twice")
        return self

    @model_validator(mode="after")
    def _checkpoints_have_a_network(self) -> Self:
        networks = [CAM, AMN, *self.variants]
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
            sources = [] if boundary else map(self.seeds_source, self.methods)
            if method not in (*self.methods, *sources):
                raise ValueError(
                    f"{what} `methods` does not have `{method}`; add it, or take it out"
                )
        return self

    @model_validator(mode="after")
    def _validation_is_apart(self) -> Self:
        seeds = [self.refine_seeds.cam, self.refine_seeds.amn]
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

    def amn_settings(self, method: str) -> TrainAmnSettings:
        """Settings of AMN or of one of its variants.

        Raises:
            InputError: A variant's values are not valid.
        """
        values = {k: v for k, v in self.variants.get(method, {}).items() if k != SEEDS_FROM}
        merged = merge(self.train_amn.model_dump(), values)
        return validate(TrainAmnSettings, merged, f"variants.{method}" if values else "train_amn")

    def seeds_source(self, method: str) -> str:
        """Method whose seeds AMN, or one of its variants, learns from."""
        return str(self.variants.get(method, {}).get(SEEDS_FROM, CAM))

    def seed_settings(self, method: str) -> SeedSettings:
        """Settings of a method's seeds."""
        if method in self.imports:
            return self.imports[method].refine_seeds
        return self.refine_seeds.cam if method == CAM else self.refine_seeds.amn
