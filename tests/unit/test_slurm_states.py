import asyncio
import sys
from types import SimpleNamespace

from workflow_scripts.planning.slurm_states import PLUGIN, in_one_word, know_cancelled_jobs


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


def test_the_plugin_uses_it_where_there_is_one(monkeypatch):
    async def query(command, logger):
        return {"7": "CANCELLED by 0"}, 0.1

    plugin = SimpleNamespace(query_job_status=query)
    monkeypatch.setitem(sys.modules, PLUGIN, plugin)
    know_cancelled_jobs()
    assert asyncio.run(plugin.query_job_status("sacct", None))[0] == {"7": "CANCELLED"}
    monkeypatch.delitem(sys.modules, PLUGIN)
    know_cancelled_jobs()


def test_the_installed_plugin_still_has_that_query():
    import snakemake_executor_plugin_slurm as plugin

    assert asyncio.iscoroutinefunction(plugin.query_job_status)
