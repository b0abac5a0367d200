"""How a cancelled Slurm job looks to Snakemake.

Slurm's accounts say `CANCELLED by 1000`. Snakemake's plugin for Slurm (2.8.0) knows `CANCELLED` alone: it
would take a job that someone has cancelled to be still running, and wait for it for ever.
"""

import sys
from collections.abc import Awaitable, Callable
from typing import Any

PLUGIN = "snakemake_executor_plugin_slurm"
QUERY = "query_job_status"
States = dict[str, str]
Query = Callable[..., Awaitable[tuple[States | None, float | None]]]


def in_one_word(query: Query) -> Query:
    """The same query, whose answers name each job's state in one word.

    Args:
        query: Returns (states by job, seconds that it took); None for both where it failed.
    """

    async def shortened(*arguments: Any) -> tuple[States | None, float | None]:
        states, seconds = await query(*arguments)
        if states is None:
            return None, seconds
        return {job: state.partition(" ")[0] for job, state in states.items()}, seconds

    return shortened


def know_cancelled_jobs() -> None:
    """Have the plugin of this Snakemake know a cancelled job; nothing where it is not loaded."""
    plugin = sys.modules.get(PLUGIN)
    if plugin is not None and hasattr(plugin, QUERY):
        setattr(plugin, QUERY, in_one_word(getattr(plugin, QUERY)))
