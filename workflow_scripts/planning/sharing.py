"""Into how many parts the splits of a run are cut on one machine.

A part is a job, and each pays for its start: torch, the driver and the network are loaded. On a cluster many
parts spread over many machines; on one machine no more of them pay than its GPUs and cores work on at a time.
Results do not depend on the parts, but their files do: on one machine a run keeps what it was last cut into,
there or elsewhere. What that is, is recorded when jobs start, since planning alone must change nothing.
"""

import glob
import json
import os
from pathlib import Path

from workflow_scripts.errors import InputError
from workflow_scripts.storage.atomic import atomic_path
from workflow_scripts.storage.shard_files import RECORD, recorded_parts, shard_names
from workflow_scripts.training.gpus import visible_gpus


def parts_at_a_time(limit: int, cores_of_a_job: int) -> int:
    """Parts that this machine works on at a time, at most `limit`: as cores allow, or GPUs if more."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    jobs = (cores or 1) // cores_of_a_job
    return max(1, min(limit, max(jobs, len(visible_gpus()))))


def kept_parts(folder: Path, limit: int, split: str) -> int | None:
    """Parts that a run is cut into already; None where it is not, or another limit is given now.

    Without a record, a run that has the last of `limit` shards is cut into so many.

    Args:
        folder: Folder of the run.
        limit: Most parts; the number that a record gives fits too, as it stands in the run's config.yaml.
        split: A split that has shards.

    Raises:
        InputError: The record is damaged.
    """
    recorded = recorded_parts(folder)
    if recorded is not None:
        return recorded[0] if limit in recorded else None
    last = glob.escape(shard_names(split, limit)[-1])
    # trial/method/activations, trial/method/seeds …
    return limit if any(folder.glob(f"[0-9]*/*/*/{last}.*")) else None


def keep_parts(folder: Path, limit: int, parts: int) -> None:
    """Record what a run is cut into, where the record says anything else."""
    try:
        if (recorded := recorded_parts(folder)) and recorded[0] == parts and limit in recorded:
            return
    except InputError:
        pass  # It is damaged, and written anew.
    with atomic_path(folder / RECORD) as temporary:
        temporary.write_text(json.dumps({"limit": limit, "parts": parts}) + "\n", "utf-8")
