"""Run a stage in a process of its own and tell its peak memory.

`python -m tools.benchmarks.peak_memory STAGE FLAG …` prints the bytes. A parent cannot read
them off the child: Linux counts what the parent held when it forked.
"""

import importlib
import re
import resource
import subprocess
import sys
from pathlib import Path

_STATUS = Path("/proc/self/status")
_KIB = 1024


def own_peak() -> int:
    """Largest resident size of this process so far, in bytes."""
    if _STATUS.is_file():
        found = re.search(r"VmHWM:\s+(\d+) kB", _STATUS.read_text())
        if found:
            return int(found[1]) * _KIB
    largest = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return largest if sys.platform == "darwin" else largest * _KIB


def peak_of(stage: str, *flags: str | Path | float) -> int:
    """Peak memory of a stage, in bytes.

    Raises:
        RuntimeError: The stage failed; with the end of what it said.
    """
    done = subprocess.run(
        [sys.executable, "-m", __name__, stage, *map(str, flags)],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(f"{stage} failed:\n{done.stderr[-2000:]}")
    return int(done.stdout.split()[-1])


if __name__ == "__main__":
    code = importlib.import_module(f"workflow_scripts.{sys.argv[1]}").main(sys.argv[2:])
    print(own_peak())
    sys.exit(code)
