"""Train the network of a method: cam, amn, or any other.

The first argument is the method; `python -m workflow_scripts.train METHOD --help` lists what it can be told.
Reads the index, its images and, where the method learns from them, the seeds of all training shards or the
network of another method; writes model.safetensors and training.csv. Interrupted, it resumes.
"""

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import Field
from torch import Tensor, nn

from workflow_scripts.console.stage import run_entry_stage, run_stage
from workflow_scripts.datasets.index import ImageRecord, Index
from workflow_scripts.doors.backbone import BackboneSettings
from workflow_scripts.doors.door import place_of
from workflow_scripts.doors.method import METHODS, Method, Reads
from workflow_scripts.doors.usage import Use, code_of, uses
from workflow_scripts.errors import InputError
from workflow_scripts.models.feature_maps import Backbone
from workflow_scripts.models.trained import described_backbone
from workflow_scripts.settings.base import Settings
from workflow_scripts.storage.masks import MaskCollection
from workflow_scripts.storage.networks import read_description
from workflow_scripts.training.loop import Batch
from workflow_scripts.training.training_stage import Learner, TrainingFiles, run_training


class Files(TrainingFiles):
    """Inputs and outputs."""

    seeds: tuple[Path, ...] = Field(
        (),
        description="zip shards of seeds for the training images, for methods that learn from them",
    )
    source: Path | None = Field(
        None,
        description="model.safetensors of the method that this one starts from, where it reads one",
    )


class MethodTask:
    """What a method teaches its network, as the loop asks for it."""

    def __init__(self, method: Method, network: nn.Module) -> None:
        self.method, self.network = method, network

    def counts(self, batch: Batch) -> Tensor:
        """See `Method.counts`."""
        return self.method.counts(self.network, batch)

    def loss(self, network: nn.Module, batch: Batch, counts: Tensor) -> Tensor:
        """See `Method.loss`.

        Raises:
            InputError: It gives what is no loss.
        """
        loss = self.method.loss(network, batch, counts)
        if not isinstance(loss, Tensor) or loss.ndim:
            found = (
                f"a tensor of shape {list(loss.shape)}" if isinstance(loss, Tensor) else repr(loss)
            )
            raise InputError(
                f"{place_of(type(self.method))}: `loss` gives {found}; expected one number, a tensor without"
                " dimensions: sums divided by `counts`"
            )
        return loss


def check_inputs(entry: type[Method], files: Files) -> None:
    """See that there is what a method reads, and nothing that it does not.

    Raises:
        InputError: Seeds or network are missing, or given to a method that reads none.
    """
    for flag, given, wanted in (
        ("--seeds", bool(files.seeds), entry.reads is Reads.SEEDS),
        ("--source", files.source is not None, entry.reads is Reads.NETWORK),
    ):
        if given != wanted:
            does = "needs" if wanted else "does not read"
            raise InputError(f"{flag}: the method `{entry.name}` {does} it; it reads {entry.reads}")


def backbone_of(settings: Any, source: Path | None, method: str) -> BackboneSettings:
    """The backbone of a training: that of its settings, or of the network that it starts from."""
    if source is None:
        backbone: BackboneSettings = settings.backbone
        return backbone
    return described_backbone(read_description(source, method))


def run(entry: type[Method], arguments: Sequence[str]) -> int:
    """Run the stage for one method; returns its exit code."""

    def code(settings: Settings) -> Mapping[str, str]:
        return code_of("train", [Use(METHODS, entry.name), *uses(settings)])

    def work(files: Files, settings: Any) -> None:
        check_inputs(entry, files)
        method = entry(settings)

        def build(backbone: Backbone, index: Index, records: Sequence[ImageRecord]) -> Learner:
            network = method.build(backbone, len(index.classes))
            if files.source is not None:
                method.start(network, files.source)
            method.prepare(network, index.classes)
            description = {"kind": entry.name, **method.description()}
            task = MethodTask(method, network) if entry.trains else None
            return Learner(network, task, description)

        run_training(
            f"train {entry.name}",
            files,
            settings,
            build,
            backbone_of(settings, files.source, entry.source),
            code(settings),
            MaskCollection(files.seeds).of if files.seeds else None,
            files.seeds,
            files.source,
        )

    return run_stage(f"train {entry.name}", __doc__, Files, entry.Train, work, arguments, code)


def main(argv: Sequence[str] | None = None) -> int:
    """Command line of the stage."""
    return run_entry_stage("train", __doc__, METHODS, run, argv)


if __name__ == "__main__":
    sys.exit(main())
