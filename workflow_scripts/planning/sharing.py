"""Into how many parts the splits of a run are cut on one machine.

A part is a job, and each pays for its start: torch, the driver and the network are loaded. On a cluster many
parts spread over many machines; on one machine no more of them pay than its GPUs and cores work on at a time.
Results do not depend on the parts, but their files do: a run keeps what it was first cut into.
"""

import json
import os
from pathlib import Path

from workflow_scripts.errors import InputError
from workflow_scripts.storage.atomic import atomic_path
from workflow_scripts.training.gpus import visible_gpus

NAME = "shards.json"


def parts_at_a_time(limit: int, cores_of_a_job: int) -> int:
    """Parts that this machine works on at a time, at most `limit`: as cores allow, or GPUs if more."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    jobs = (cores or 1) // cores_of_a_job
    return max(1, min(limit, max(jobs, len(visible_gpus()))))


def kept_parts(folder: Path, limit: int) -> int | None:
    """Parts that a run was cut into on one machine; None where it was not, or another limit is given now.

    Raises:
        InputError: The record is damaged.
    """
    path = folder / NAME
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        return int(record["parts"]) if record["limit"] == limit else None
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(
            f"{path}: not readable ({error!r}); delete it: the run is cut anew, and made anew where the "
            "parts are others"
        ) from None


def keep_parts(folder: Path, limit: int, parts: int) -> None:
    """Record what a run is cut into, once."""
    if kept_parts(folder, limit) is None:
        with atomic_path(folder / NAME) as temporary:
            temporary.write_text(json.dumps({"limit": limit, "parts": parts}) + "\n", "utf-8")
