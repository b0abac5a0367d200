"""What measurements were made with and on."""

import json
import logging
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

from workflow_scripts.report.provenance import commit, hardware, versions
from workflow_scripts.storage.atomic import atomic_path

logger = logging.getLogger(__name__)

ROOT = Path(__file__).resolve().parents[2]
REFERENCE_LIBRARY = "pydensecrf2"


def surroundings(threads: int) -> dict[str, Any]:
    """Machine, versions, threads, date and commit."""
    installed = dict(versions())
    try:
        installed[REFERENCE_LIBRARY] = metadata.version(REFERENCE_LIBRARY)
    except metadata.PackageNotFoundError:
        logger.info("%s is not installed", REFERENCE_LIBRARY)
    return {
        "machine": dict(hardware()),
        "versions": installed,
        "threads": threads,
        "date": datetime.now(UTC).strftime("%Y-%m-%d"),
        "commit": commit(ROOT),
    }


def write(path: Path, measured: dict[str, Any], threads: int) -> dict[str, Any]:
    """Write what was measured and its surroundings (JSON); returns the content."""
    bench = measured | surroundings(threads)
    with atomic_path(path) as temporary:
        temporary.write_text(json.dumps(bench, indent=1, ensure_ascii=False) + "\n", "utf-8")
    return bench
