"""The warm Python behaves as a cold one, so that whole-workflow tests may use it."""

import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.warm_python import interpreter

MODULES = {
    "shown": "import os, sys\nprint(os.getcwd(), os.environ['MARK'], sys.argv[1:], input())\n"
    "print('torch' in sys.modules, file=sys.stderr)\n",
    "ended": "import sys\nsys.exit(int(sys.argv[1]))\n",
    "refused": "import sys\nsys.exit('no such thing')\n",
    "broken": "1 / 0\n",
    "asked": "import signal, sys, time\n"
    "signal.signal(signal.SIGTERM, lambda *_: sys.exit(9))\n"
    "print('at work', flush=True)\ntime.sleep(60)\n",
    "killed": "import os, time\nprint(os.getpid(), flush=True)\ntime.sleep(60)\n",
    "limited": "import resource\nprint(resource.getrlimit(resource.RLIMIT_FSIZE)[0])\n",
    "last": "import atexit\natexit.register(print, 'put away')\n",
}


@pytest.fixture
def python(tmp_path):
    """Runs one of the modules above, which no Python knows beforehand."""
    (tmp_path / "workflow_scripts").mkdir()
    for name, text in MODULES.items():
        (tmp_path / f"workflow_scripts/{name}.py").write_text(text)

    def start(name, *words, **changes):
        return subprocess.Popen(
            [interpreter(), "-m", f"workflow_scripts.{name}", *words],
            cwd=tmp_path, env={**os.environ, "MARK": "set"}, text=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, **changes,
        )  # fmt: skip

    return start


def test_folder_environment_arguments_and_streams_are_the_callers(python, tmp_path):
    process = python("shown", "--a", "b c")
    output, errors = process.communicate("from above\n")
    assert output == f"{tmp_path} set ['--a', 'b c'] from above\n"
    assert errors == "True\n" and process.returncode == 0


@pytest.mark.parametrize(
    "words, code", [(["ended", "0"], 0), (["ended", "75"], 75), (["refused"], 1), (["broken"], 1)]
)
def test_exit_codes(python, words, code):
    process = python(*words)
    _, errors = process.communicate()
    assert process.returncode == code
    assert ("no such thing" in errors) == (words[0] == "refused")
    assert ("ZeroDivisionError" in errors) == (words[0] == "broken")


def test_signals_reach_the_work(python):
    process = python("asked")
    assert process.stdout.readline() == "at work\n"
    process.send_signal(signal.SIGTERM)
    assert process.wait(20) == 9


def test_the_work_of_a_caller_that_is_killed_ends(python):
    process = python("killed")
    work = int(process.stdout.readline())
    process.kill()
    process.wait(20)
    deadline = time.monotonic() + 20
    while Path(f"/proc/{work}").exists():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_what_is_registered_for_the_end_is_done(python):
    assert python("last").communicate()[0] == "put away\n"


def test_limits_are_the_callers(python):
    """As those of tests that fill the disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (123456, before[1]))
    process = python("limited")
    resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert process.communicate()[0] == "123456\n"


def test_other_programs_run_in_a_python_as_usual():
    code = "import sys; print(sys.executable, 'torch' in sys.modules)"
    done = subprocess.run([interpreter(), "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == f"{sys.executable} False\n"
