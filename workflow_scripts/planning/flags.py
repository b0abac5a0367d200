"""Flags that rules give to their stages, and digests of the code that these run."""

import shlex
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from workflow_scripts.planning.dataset_state import dataset_state
from workflow_scripts.planning.fingerprint import code_digests, file_digests
from workflow_scripts.planning.inputs import Inputs
from workflow_scripts.planning.layout import Wildcards
from workflow_scripts.settings.base import render_flags
from workflow_scripts.settings.checkpoints import BOUNDARY, checkpoint_key
from workflow_scripts.settings.workflow import CAM
from workflow_scripts.storage.file_state import file_state


class Flags(Inputs):
    """Inputs of rules with the flags and code of their stages."""

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

    def dataset_state(self, wildcards: Wildcards) -> dict[str, str]:
        """What a dataset that is already here consists of; a change of it makes the index anew."""
        return dataset_state(self.settings.dataset)

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
        kind = {CAM: "cam", BOUNDARY: "irn"}.get(wildcards.network.rpartition("/")[2], "amn")
        return f"--kind {kind} --key {checkpoint_key(wildcards.network)}"

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
    def code(stage: str) -> Callable[[Wildcards], dict[str, str]]:
        """Digests of the code that a stage runs, as a parameter of its rule.

        They are made when a job asks for them: the Snakemake inside a cluster's job runs one stage alone.
        """

        def digests(wildcards: Wildcards) -> dict[str, str]:
            return code_digests(stage)

        return digests

    @staticmethod
    def assets(files: Iterable[Path]) -> dict[str, str]:
        """Digests of what is no code, such as captions."""
        return file_digests(files)
