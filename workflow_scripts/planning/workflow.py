"""What the rules ask of a configuration.

The rules stay free of logic: their input functions, parameters and targets are methods of `Workflow`.
A method that takes `wildcards` can be given to Snakemake as it is.
"""

import json
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from workflow_scripts.errors import InputError
from workflow_scripts.planning.configuration import FORMER_RULES
from workflow_scripts.planning.requests import Requests
from workflow_scripts.planning.run_layout import Wildcards
from workflow_scripts.planning.sharing import keep_parts
from workflow_scripts.planning.targets import ReportFiles, Targets
from workflow_scripts.report.catalogue import Item, planned_items
from workflow_scripts.settings.base import render_flags
from workflow_scripts.settings.refinement import AUTO
from workflow_scripts.storage.atomic import atomic_path
from workflow_scripts.training.gpus import visible_gpus
from workflow_scripts.training.launch import check_batch


class Workflow(Requests, Targets):
    """A validated configuration, as the rules see it; what the report needs stands here.

    Snakemake looks at times of files, and under `--rerun-triggers mtime` at nothing else. So what a dataset's
    files and regions consist of is written to files, which are as old as the last change.
    """

    @property
    def recorded_state(self) -> str:
        """The file that holds the dataset's state."""
        return self.path("dataset_state.json")

    @property
    def recorded_regions(self) -> list[str]:
        """The file that holds the state of the regions, where pseudo-masks are merged with any."""
        return [self.path("region_state.json")] if self.region_folder(None) else []

    def record_state(self) -> None:
        """Write these files where the states have changed.

        Raises:
            InputError: The folder of results cannot be written to, or regions vanish meanwhile.
        """
        states: dict[str, Any] = {self.recorded_state: self.dataset_state(None)}
        states |= {file: self.region_state(None) for file in self.recorded_regions}
        try:
            for path, state in ((Path(file), state) for file, state in states.items()):
                content = json.dumps(state, indent=0, ensure_ascii=False) + "\n"
                if not path.is_file() or path.read_text(encoding="utf-8") != content:
                    with atomic_path(path) as temporary:
                        temporary.write_text(content, encoding="utf-8")
        except OSError as error:
            raise InputError(
                f"results: {self.folder}: cannot be written to ({error.strerror}); name another folder"
            ) from None

    def record_parts(self) -> None:
        """Write what the splits are cut into, for one machine to go on with; when jobs start, not before."""
        keep_parts(Path(self.folder), self.most_shards, self.settings.shards)

    @property
    def report_files(self) -> ReportFiles:
        """What the report reads."""
        return ReportFiles(self)

    @property
    def report_items(self) -> list[Item]:
        """Figures that this run will have the data for."""
        return planned_items(self.has_masks, self.settings.methods, self.sources)

    @property
    def run_flags(self) -> str:
        """The same with trials and sources, for the stages that look at a whole run."""
        return (
            f"--trials {' '.join(map(str, self.trials))} {self.shown_flags} "
            f"--sources {' '.join(self.sources)}"
        )

    @property
    def shown_flags(self) -> str:
        """Methods, and what was made of which shard, for the stages that show one trial."""
        words = ["--methods", *self.settings.methods, "--shards", *self.activation_shards]
        words += ["--segmentation-shards", *self.segmentation_shards]
        if not self.has_masks:
            words += ["--no-masks", "--pseudo-mask-shards", *self.pseudo_mask_shards]
        if self.settings.boundary.enabled:
            words.append("--propagated")
        return " ".join(words)

    @property
    def seeds_of_trials(self) -> str:
        """Trials and their random seeds."""
        seeds = (str(self.settings.seed + trial) for trial in self.trials)
        return f"--trials {' '.join(map(str, self.trials))} --seeds {' '.join(seeds)}"

    @property
    def summary_flags(self) -> str:
        """What `summarise` gathers."""
        return f"{self.run_flags} --dataset {self.settings.dataset.kind} {self.flags('summary')}"

    def refined_sweep_flags(self, wildcards: Wildcards) -> str:
        """Settings of the sweep with another {refinement}, which looks at the threshold `auto` too."""
        settings = self.settings.sweep.model_copy(update={"refinement": wildcards.refinement})
        chosen = self.path(str(wildcards.trial), wildcards.method, AUTO, "thresholds.json")
        return f"{render_flags(settings)} --thresholds {shlex.quote(chosen)}"

    @property
    def gpu_limit(self) -> int:
        """GPUs of this machine that jobs may share: 0 where there is none, and nothing to limit."""
        return len(visible_gpus())

    def check_gpus(self, overwritten: Mapping[str, Mapping[str, Any]]) -> None:
        """See that the GPUs which a profile gives to trainings can share their batches.

        Args:
            overwritten: Resources of rules, from `set-resources`: rule → resource → value.

        Raises:
            InputError: A batch is no multiple of its rule's GPUs; names what would be.
        """
        trainings: dict[str, list[tuple[str, Any]]] = {
            "train": [
                (f"train_{name}", self.settings.training(name))
                for name in self.needed_networks
                if name not in self.settings.checkpoints.files
            ],
            "train_segmentation": [("train_segmentation", self.settings.train_segmentation)],
        }
        if self.settings.boundary.enabled:
            trainings["train_boundary"] = [("boundary.train", self.settings.boundary.train)]
        for old, new in FORMER_RULES.items():
            if old in overwritten:
                raise InputError(
                    f"set-resources: there is no rule `{old}` any more; write `{new}`, which is one rule for "
                    "all methods"
                )
        for rule, settings in trainings.items():
            given = overwritten.get(rule, {}).get("gpu")
            gpus = getattr(given, "value", given)
            for section, of_section in settings:
                if isinstance(gpus, int):
                    check_batch(of_section.training.batch_size, gpus, section)
