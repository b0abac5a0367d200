"""The report's page about what it was made with."""

from pathlib import Path
from typing import Any

from workflow_scripts.report.html import bullets, element, page, table
from workflow_scripts.report.provenance import commit, hardware, versions


def provenance_page(
    summary: dict[str, Any],
    configuration: str,
    seeds: dict[int, int],
    imported: dict[str, str],
    code: Path,
) -> str:
    """Return the resolved configuration, versions, commit, seeds, imported networks and hardware."""
    revision = commit(code) or "not a git checkout"
    facts = [("Run", summary["run"]), ("Dataset", summary["dataset"]), ("Commit", revision)]
    facts += [(f"Random seed of trial {trial}", str(seed)) for trial, seed in seeds.items()]
    facts += [(f"Network {name}", f"imported from {file}") for name, file in imported.items()]
    return page(
        f"{summary['run']}: provenance",
        element("h1", "Provenance"),
        table((), facts, "words"),
        element("h2", "Hardware"),
        element("p", "Of the machine that made this report.", "soft"),
        table((), ((what.capitalize(), value) for what, value in hardware()), "words"),
        element("h2", "Versions"),
        table((), versions(), "words"),
        element("h2", "Classes"),
        bullets(summary["classes"]),
        element("h2", "Configuration"),
        element("p", "As resolved: what was not given is a default.", "soft"),
        element("pre", configuration),
    )
