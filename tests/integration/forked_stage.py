"""Runs a stage in forked processes: Python and torch start once, a run takes a second.

    python forked_stage.py STAGE FLAGS…

Each line on standard input is a number of seconds after which the run is killed, or `whole`; each line
on standard output says how it ended (exit code, or −9) and after how many seconds.
"""

import importlib
import os
import signal
import sys
import time

if __name__ == "__main__":
    stage = importlib.import_module(f"workflow_scripts.{sys.argv[1]}")
    # Imported with the first network, and more than all the rest of a run takes.
    importlib.import_module("timm")
    for line in sys.stdin:
        started = time.monotonic()
        process = os.fork()
        if process == 0:
            os._exit(stage.main(sys.argv[2:]))
        if line.strip() != "whole":
            time.sleep(float(line))
            os.kill(process, signal.SIGKILL)
        code = os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
        print(code, time.monotonic() - started, flush=True)
