"""Files of threshold sweeps: safetensors, one a shard."""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from workflow_scripts.errors import InputError
from workflow_scripts.evaluation.refined_sweep import RefinedSweep
from workflow_scripts.evaluation.threshold_sweep import ThresholdSweep
from workflow_scripts.storage.atomic import atomic_path


@dataclass(frozen=True, slots=True)
class Sweeps:
    """What one method's activations of one split are worth at every threshold."""

    plain: ThresholdSweep
    refined: RefinedSweep | None
    """After dense CRF, on a coarse grid; None where it was not asked for."""


def write_sweeps(path: Path, sweeps: Sweeps) -> None:
    """Write the sweeps of a shard; the file appears whole or not at all."""
    tensors = sweeps.plain.tensors()
    if sweeps.refined is not None:
        tensors |= sweeps.refined.tensors()
    ids = json.dumps(sweeps.plain.images().ids, ensure_ascii=False)
    with atomic_path(path) as temporary:
        save_file(tensors, temporary, metadata={"ids": ids})


def read_sweeps(path: Path) -> Sweeps:
    """Read the sweeps of a shard.

    Raises InputError when the file is missing or was not written by `write_sweeps`.
    """
    try:
        with safe_open(str(path), framework="numpy") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            ids = json.loads(file.metadata()["ids"])
        refined = RefinedSweep.from_tensors(tensors) if "refined_counts" in tensors else None
        return Sweeps(ThresholdSweep.from_tensors(ids, tensors), refined)
    except (OSError, SafetensorError, KeyError, TypeError, ValueError) as error:
        raise InputError(
            f"{path}: not a complete threshold sweep ({error}). Delete the file, so that"
            " sweep_thresholds runs again."
        ) from error


def merge_shards(paths: Iterable[Path]) -> Sweeps:
    """Read the shards of a split, in their order, as one.

    Raises InputError when a file cannot be read, or shards disagree about classes or thresholds.
    """
    first, *others = list(paths)
    merged = read_sweeps(first)
    for path in others:
        shard = read_sweeps(path)
        try:
            merged.plain.merge(shard.plain)
            if (merged.refined is None) != (shard.refined is None):
                raise ValueError("only one of them has refined masks")
            if merged.refined is not None and shard.refined is not None:
                merged.refined.merge(shard.refined)
        except ValueError as error:
            raise InputError(
                f"{path}: does not fit {first} ({error}). Delete both, so that sweep_thresholds"
                " runs again."
            ) from error
    return merged
