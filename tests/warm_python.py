"""A Python that is warm: stages of whole-workflow tests start as forks of a process with torch imported.

A run of the workflow has some fifty jobs, each of which imports torch, timm and matplotlib for seconds; here
they are imported once. `interpreter()` starts such a process and returns the path of a program called
`python`: `python -m workflow_scripts.x …` and `python -m snakemake …` run in a fork of it, with the caller's
arguments, folder, environment, limits, streams and signals; everything else runs in a Python as usual.
Nothing of the project is imported beforehand, since each test has a checkout of its own.
"""

import array
import atexit
import contextlib
import importlib
import json
import os
import resource
import runpy
import select
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from functools import cache
from pathlib import Path

PACKAGES = (
    "torch", "torch._dynamo", "torchvision", "timm", "numba", "scipy.ndimage", "pandas", "matplotlib.figure",
    "matplotlib.backends.backend_svg", "matplotlib.backends.backend_agg", "pydantic", "safetensors.torch",
    "tqdm", "yaml", "snakemake.cli", "snakemake.report", "torch.utils.data", "PIL.Image",
)  # fmt: skip
_REAL = sys.executable
# Looks for the caller only; it must start in milliseconds.
_CLIENT = """#!{real} -SE
import array, json, os, resource, signal, socket, sys
words = sys.argv[1:]
if words[:1] != ["-m"] or not words[1].startswith(("workflow_scripts.", "snakemake")):
    os.execv({real!r}, [{real!r}, *words])
server = socket.socket(socket.AF_UNIX)
server.connect({address!r})
for number in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1, signal.SIGUSR2):
    if signal.getsignal(number) is not signal.SIG_IGN:
        signal.signal(number, lambda number, frame: server.send(bytes([number])))
names = [name for name in dir(resource) if name.startswith("RLIMIT_")]
limits = {{name: resource.getrlimit(getattr(resource, name)) for name in names}}
request = json.dumps([words[1:], os.getcwd(), dict(os.environ), limits]).encode()
streams = array.array("i", [0, 1, 2])
server.sendmsg([len(request).to_bytes(4, "big")], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, streams)])
server.sendall(request)
code = server.recv(1)
os._exit(code[0] if code else 1)
"""


@cache
def interpreter() -> Path:
    """Start the process, once for all tests of this one; return the program to call in place of Python."""
    folder = Path(tempfile.mkdtemp(prefix="warm-python-"))
    program, address = folder / "python", folder / "socket"
    program.write_text(_CLIENT.format(real=_REAL, address=str(address)))
    program.chmod(0o755)
    # It ends with the pipe, and so with this process, however that ends.
    server = subprocess.Popen(
        [_REAL, __file__, str(address), str(program)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert server.stdin and server.stdout
    assert server.stdout.readline() == b"ready\n"
    server.stdout.close()
    atexit.register(server.stdin.close)
    return program


def _serve(address: str, program: str) -> None:
    """Fork for each caller until standard input ends."""
    for name in PACKAGES:
        importlib.import_module(name)
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(address)
    listener.listen()
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    print("ready", flush=True)
    while True:
        ready, _, _ = select.select([listener, sys.stdin], [], [])
        if sys.stdin in ready:
            return
        caller, _ = listener.accept()
        if os.fork() == 0:
            listener.close()
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            _look_after(caller, program)
        caller.close()


def _look_after(caller: socket.socket, program: str) -> None:
    """Run what a caller asks for in a further fork; pass its signals on, and the exit code back."""
    head, control, _, _ = caller.recvmsg(4, socket.CMSG_SPACE(3 * 4))
    streams = array.array("i")
    streams.frombytes(control[0][2])
    request = b""
    while len(request) < int.from_bytes(head, "big"):
        part = caller.recv(1 << 20)
        if not part:
            os._exit(1)  # the caller was killed meanwhile
        request += part
    words, folder, environment, limits = json.loads(request)
    child = os.fork()
    if child == 0:
        os.setsid()
        caller.close()
        for number, stream in enumerate(streams):
            os.dup2(stream, number)
            os.close(stream)
        for name, values in limits.items():
            resource.setrlimit(getattr(resource, name), values)
        _run(words, folder, environment, program)
    ended = os.pidfd_open(child)
    while True:
        ready, _, _ = select.select([caller, ended], [], [])
        if caller in ready:
            numbers = caller.recv(16)
            # A caller that was killed takes its work along.
            for number in numbers or [signal.SIGKILL]:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(child, number)
            if not numbers:
                os._exit(1)
        if ended in ready:
            code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
            with contextlib.suppress(OSError):
                caller.send(bytes([code if code >= 0 else 128 - code]))
            os._exit(0)


def _run(words: list[str], folder: str, environment: dict[str, str], program: str) -> None:
    """Be `python -m …`."""
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    sys.executable = program
    sys.argv = words
    sys.path[0] = folder
    sys.path[1:1] = filter(None, environment.get("PYTHONPATH", "").split(os.pathsep))
    for name, number, mode in (("stdin", 0, "r"), ("stdout", 1, "w"), ("stderr", 2, "w")):
        setattr(sys, name, os.fdopen(number, mode, errors="backslashreplace"))
    code: object = 0
    try:
        runpy.run_module(words[0], run_name="__main__", alter_sys=True)
    except SystemExit as ended:
        code = ended.code
        if isinstance(code, str):
            print(code, file=sys.stderr)
    except BaseException:
        sys.excepthook(*sys.exc_info())
        code = 1
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()  # type: ignore[attr-defined]
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            stream.flush()
    os._exit(code if isinstance(code, int) else 0 if code is None else 1)


if __name__ == "__main__":
    # Not this file's folder: the caller's takes its place.
    _serve(*sys.argv[1:])
