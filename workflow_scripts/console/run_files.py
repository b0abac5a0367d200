"""What stages take that look at a whole run, and how its files are found."""

from pathlib import Path

from pydantic import Field

from workflow_scripts.console.stage import StageFiles
from workflow_scripts.evaluation.run_results import Benchmarks, RunFolder


class RunFiles(StageFiles):
    """A run, and what was computed in it; other files in its folder are leftovers."""

    run: Path = Field(description="folder of the run, results/<run>")
    methods: tuple[str, ...] = Field(min_length=1, description="methods, the baseline first")
    shards: tuple[str, ...] = Field(
        min_length=1, description="shards whose activations are evaluated, train-00 val-00 …"
    )
    pseudo_mask_shards: tuple[str, ...] | None = Field(
        None, description="shards that have pseudo-masks; those of --shards if left out"
    )
    segmentation_shards: tuple[str, ...] | None = Field(
        None, description="shards that networks predict; those of --shards if left out"
    )
    masks: bool = Field(True, description="whether the run has masks to evaluate with")
    propagated: bool = Field(False, description="whether boundaries are learnt")

    @property
    def folder(self) -> RunFolder:
        """The run's folder, seen as these flags say; InputError for a shard without a number."""
        return RunFolder.of(
            self.run,
            self.shards,
            self.pseudo_mask_shards,
            self.segmentation_shards,
            masks=self.masks,
            propagated=self.propagated,
        )


class MeasuredRunFiles(RunFiles):
    """The same with what its jobs took."""

    benchmarks: Path | None = Field(None, description="folder of Snakemake's benchmarks")
    jobs: tuple[str, ...] = Field(
        (),
        description="names of the jobs whose benchmarks count, stage/wildcards, as regular expressions; "
        "all if left out",
    )

    @property
    def costs(self) -> Benchmarks | None:
        """The benchmarks that count."""
        if self.benchmarks is None:
            return None
        return Benchmarks(self.benchmarks, self.jobs)
