"""Several processes of one job, started by the real torchrun."""

import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
PROGRAM = """
import sys, time
from workflow_scripts.console.job import announce, announced, leads
if leads():
    time.sleep(1)
    announce(sys.argv[1] == "done")
else:
    print("told:", announced(), flush=True)
"""


@pytest.mark.parametrize("word", ["done", "to do"])
def test_the_others_do_what_the_first_process_found(tmp_path, word):
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    done = subprocess.run(
        [*torchrun, program, word], env={"PYTHONPATH": str(REPOSITORY), "PATH": "/usr/bin:/bin"},
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["told:", str(word == "done")]
