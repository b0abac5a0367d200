"""Which tests run in one process when several processes share the work (`pytest -n`)."""

from pathlib import Path

import pytest
from xdist.scheduler import LoadScopeScheduling

# What is made once a process: a tiny run of the whole workflow, and a Slurm cluster.
COSTLY_FIXTURES = ("tiny_run", "cluster")


class SharingCostlyFixtures(LoadScopeScheduling):
    """Keeps the tests of a module together, and the modules that need the same costly fixture."""

    def _split_scope(self, nodeid: str) -> str:
        module = nodeid.split("::")[0]
        text = (Path(self.config.rootpath) / module).read_text(encoding="utf-8")
        return next((name for name in COSTLY_FIXTURES if name in text), module)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: object) -> SharingCostlyFixtures:
    """Let xdist ask the scheduler above."""
    return SharingCostlyFixtures(config, log)
