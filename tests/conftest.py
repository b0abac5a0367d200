"""What concerns all tests: which of them run in one process when several share the work."""

import pytest

# A tiny run of the whole workflow, and a Slurm cluster: made once a process.
COSTLY_FIXTURES = ("tiny_run", "cluster")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Keep the tests of a module together, and those that share a costly fixture."""
    for item in items:
        fixtures = getattr(item, "fixturenames", ())
        shared = next(
            (name for name in COSTLY_FIXTURES if name in fixtures), item.nodeid.split("::")[0]
        )
        item.add_marker(pytest.mark.xdist_group(shared))
