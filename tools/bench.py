"""Measure the workflow's kernels against the usual implementations, on this machine.

References and ours run in turn, pair by pair, on the same images and weights. Writes a JSON file: for
each benchmark the medians, their ratio with its range and how far the results agree, and the machine.
With --table it measures nothing and shows the table of such a file, or puts it into a page.
"""

import importlib
import logging
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import Field

from tools.benchmarks.command import MeasuringCommand, MeasuringFiles
from tools.benchmarks.comparison import Comparison
from tools.benchmarks.table import BEGIN, END, table
from workflow_scripts.errors import InputError

logger = logging.getLogger(__name__)


class Target(NamedTuple):
    """What a benchmark should reach.

    A limit is kept when no pair exceeds it; a ratio is reached when the median does; an amount is kept when
    the median of ours does, whatever the ratio. Agreement: the least share of equal results, or the largest
    difference.
    """

    ratio: float
    agreement: float | None = None
    is_limit: bool = False
    is_difference: bool = False
    amount: float | None = None
    module: str | None = None
    """Of `tools/benchmarks`, where it is not called as the benchmark is."""
    stage: str | None = None
    """What the module is told to measure."""


# Processor time of an image outside the network.
HOST_SECONDS = {
    "infer_cam": 0.012,
    "infer_amn": 0.012,
    "propagate": 0.012,
    "evaluate_segmentation": 0.012,
    "training_sample": 0.008,
}
TARGETS = {
    "dense_crf_seeds": Target(4, 0.999),
    "dense_crf_21": Target(2, 0.999),
    "pixel_adaptive": Target(10, None, is_limit=True),
    "random_walk": Target(300, 1e-4, is_difference=True),
    "threshold_sweep": Target(30, 1.0),
    "infer_cam_resnet50": Target(3, 0.995),
    "train_amn_resnet50": Target(3, 0.01, is_difference=True),
    "activation_storage": Target(20, 0.995),
    "memory_growth": Target(1.1, None, is_limit=True),
    **{
        f"host_{stage}": Target(1, amount=seconds, module="host_cost", stage=stage)
        for stage, seconds in HOST_SECONDS.items()
    },
    **{
        f"overlap_{stage}": Target(1.15, is_limit=True, module="overlap", stage=stage)
        for stage in ("infer_cam", "evaluate_segmentation")
    },
}


class Files(MeasuringFiles):
    """Which benchmarks to run, and outputs."""

    output: Path = Field(Path("results/bench/bench.json"), description="file to write (JSON)")
    only: tuple[str, ...] = Field(
        (), description=f"run these alone; there are {', '.join(TARGETS)}"
    )
    rounds: int = Field(3, ge=1, description="how often each benchmark measures its pairs")


def judged(comparison: Comparison, target: Target) -> dict[str, Any]:
    """The figures of a benchmark beside its target, and by how much it misses that.

    `missed_by` is the lacking (or exceeding) share of the target, 0 where it is met.
    """
    figures = comparison.figures()
    if target.amount is not None:
        missed = figures["ours"] / target.amount - 1
    elif target.is_limit:
        missed = figures["ratio_max"] / target.ratio - 1
    else:
        missed = 1 - figures["ratio"] / target.ratio
    agreement, wanted = figures["agreement"], target.agreement
    agrees = agreement is None or wanted is None
    if not agrees:
        agrees = agreement <= wanted if target.is_difference else agreement >= wanted
    return figures | {
        "target": target.ratio,
        "target_amount": target.amount,
        "target_is_limit": target.is_limit,
        "target_met": missed <= 0,
        "missed_by": max(0.0, missed),
        "target_agreement": wanted,
        "agreement_met": bool(agrees),
    }


def measure(name: str, rounds: int, sizes: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Run one benchmark; `sizes` are its other arguments, for those that want it small."""
    target = TARGETS[name]
    module = importlib.import_module(f"tools.benchmarks.{target.module or name}")
    told = {} if target.stage is None else {"stage": target.stage}
    return judged(module.measure(rounds, **told, **(sizes or {})), target)


def measure_chosen(files: Files) -> dict[str, Any]:
    """Run the benchmarks that the flags name, one after another."""
    unknown = sorted(set(files.only) - set(TARGETS))
    if unknown:
        raise InputError(f"--only: unknown {', '.join(unknown)}; there are {', '.join(TARGETS)}")
    entries = {}
    for name in files.only or TARGETS:
        entries[name] = measure(name, files.rounds)
        logger.info("%s: %s", name, entries[name])
    return {"entries": entries}


COMMAND = MeasuringCommand(
    "tools.bench", "make bench", __doc__, Files, measure_chosen, table, (BEGIN, END)
)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit code."""
    return COMMAND.run(argv)


if __name__ == "__main__":
    sys.exit(main())
