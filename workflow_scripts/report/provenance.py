"""What a report was made with: versions, commit and hardware, and the page that says so."""

import os
import platform
import shutil
import subprocess
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

from workflow_scripts.report.html import bullets, element, page, table

_PACKAGES = (
    "torch", "torchvision", "timm", "numpy", "scipy", "numba", "safetensors", "pillow", "pandas",
    "matplotlib", "pydantic", "snakemake",
)  # fmt: skip
_SECONDS = 10


def versions() -> Iterator[tuple[str, str]]:
    """Yield name and version of Python and of the installed packages that results depend on."""
    yield "python", platform.python_version()
    for name in _PACKAGES:
        try:
            yield name, metadata.version(name)
        except metadata.PackageNotFoundError:
            continue


def commit(folder: Path) -> str | None:
    """Return the commit checked out in a folder, marked where files differ; None outside git."""
    revision = _output("git", "-C", str(folder), "rev-parse", "HEAD")
    if revision is None:
        return None
    changed = _output("git", "-C", str(folder), "status", "--porcelain", "--untracked-files=no")
    return f"{revision} (with uncommitted changes)" if changed else revision


def hardware() -> Iterator[tuple[str, str]]:
    """Yield what is known of the machine that makes the report."""
    yield "system", platform.platform()
    yield "processor", _processor()
    yield "cores", str(os.cpu_count())
    if hasattr(os, "sysconf") and "SC_PHYS_PAGES" in os.sysconf_names:
        size = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
        yield "memory", f"{size / 2**30:.1f} GiB"
    if graphics := _output("nvidia-smi", "--query-gpu=name,memory.total", "--format=csv,noheader"):
        yield "graphics", "; ".join(graphics.splitlines())


def _processor() -> str:
    information = Path("/proc/cpuinfo")
    if information.is_file():
        for line in information.read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _output(*command: str) -> str | None:
    """Standard output of a command; None when it is not installed or fails."""
    if shutil.which(command[0]) is None:
        return None
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_SECONDS, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()


def provenance_page(
    summary: dict[str, Any],
    configuration: str,
    seeds: dict[int, int],
    imported: dict[str, str],
    code: Path,
    survey: dict[str, Any] | None = None,
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
        _classes(summary, survey),
        element("h2", "Configuration"),
        element("p", "As resolved: what was not given is a default.", "soft"),
        element("pre", configuration),
    )


def _classes(summary: dict[str, Any], survey: dict[str, Any] | None) -> str:
    """The classes in the order of their numbers, with how many images and masks show each."""
    if survey is None:
        return bullets(summary["classes"])
    splits = list(survey["splits"])
    columns = [
        "",
        "Class",
        *(f"{what}, {split}" for split in splits for what in ("Images", "masks")),
    ]
    rows = (
        [
            one["number"],
            one["name"],
            *(one[what][split] for split in splits for what in ("images", "masks")),
        ]
        for one in survey["classes"]
    )
    return table(columns, rows, "words")
