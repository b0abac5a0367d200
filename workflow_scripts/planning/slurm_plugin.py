"""Two defects of Snakemake's plugin for Slurm (2.8.0), mended in the Snakemake that reads the rules.

- Slurm's accounts say `CANCELLED by 1000` of a job that someone has cancelled. The plugin knows `CANCELLED`
  alone, takes the job to be running, and waits for it for ever.
- When a node is lost, the plugin asks the accounts for its name, and may get `None assigned`. It excludes a
  node of that name from all further jobs, none of which can be submitted then
  (https://github.com/snakemake/snakemake-executor-plugin-slurm/issues/485).
"""

import sys
from collections.abc import Awaitable, Callable, Iterable
from typing import Any

PLUGIN = "snakemake_executor_plugin_slurm"
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


class NodeNames(set[str]):
    """A set of nodes that takes names alone; what Slurm says in place of one has a space in it."""

    def __init__(self, names: Iterable[str] = ()) -> None:
        super().__init__(name for name in names if " " not in name)

    def add(self, name: str) -> None:
        """Add a node; nothing if this is no name."""
        if " " not in name:
            super().add(name)


def _failed_nodes(executor: Any) -> NodeNames:
    return executor.__dict__["_failed_nodes"]


def _set_failed_nodes(executor: Any, names: Iterable[str]) -> None:
    executor.__dict__["_failed_nodes"] = NodeNames(names)


def mend_slurm_plugin() -> None:
    """Mend the plugin where it is loaded; a version without these names stays as it is."""
    plugin: Any = sys.modules.get(PLUGIN)
    if hasattr(plugin, "query_job_status"):
        plugin.query_job_status = in_one_word(plugin.query_job_status)
    if hasattr(plugin, "Executor"):
        plugin.Executor._failed_nodes = property(_failed_nodes, _set_failed_nodes)
