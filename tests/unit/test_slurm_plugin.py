import asyncio
import inspect
import sys
from types import SimpleNamespace

from workflow_scripts.planning.slurm_plugin import PLUGIN, in_one_word, mend_slurm_plugin


def ask(answer):
    async def query(command, logger):
        assert (command, logger) == ("sacct", None)
        return answer

    return asyncio.run(in_one_word(query)("sacct", None))


def test_states_are_one_word():
    states = {"7": "CANCELLED by 1000", "8": "COMPLETED", "9": ""}
    assert ask((states, 0.1)) == ({"7": "CANCELLED", "8": "COMPLETED", "9": ""}, 0.1)


def test_a_failed_query_stays_one():
    assert ask((None, None)) == (None, None)


class Executor:
    def __init__(self, excluded):
        self._failed_nodes = excluded


def test_the_loaded_plugin_is_mended(monkeypatch):
    async def query(command, logger):
        return {"7": "CANCELLED by 0"}, 0.1

    plugin = SimpleNamespace(query_job_status=query, Executor=Executor)
    monkeypatch.setitem(sys.modules, PLUGIN, plugin)
    mend_slurm_plugin()
    assert asyncio.run(plugin.query_job_status("sacct", None))[0] == {"7": "CANCELLED"}
    first, second = Executor({"gpu9"}), Executor(set())
    first._failed_nodes.add("None assigned")
    first._failed_nodes.add("gpu1")
    assert (first._failed_nodes, second._failed_nodes) == ({"gpu1", "gpu9"}, set())


def test_without_the_plugin_nothing_happens(monkeypatch):
    monkeypatch.delitem(sys.modules, PLUGIN, raising=False)
    mend_slurm_plugin()
    assert PLUGIN not in sys.modules


def test_the_installed_plugin_has_what_is_mended():
    import snakemake_executor_plugin_slurm as plugin

    assert asyncio.iscoroutinefunction(plugin.query_job_status)
    assert "self._failed_nodes.add(" in inspect.getsource(plugin.Executor)
