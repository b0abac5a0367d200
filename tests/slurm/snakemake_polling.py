"""`snakemake` for the tests: it looks at its Slurm jobs each second, and is otherwise the same.

The plugin waits 10 s longer after each look that finds no job done, up to 180 s; no option changes that.
"""

import sys

import snakemake_executor_plugin_slurm as plugin
from snakemake.cli import main

if __name__ == "__main__":
    plugin.Executor.next_seconds_between_status_checks = property(
        lambda executor: 1, lambda executor, seconds: None
    )
    sys.argv[0] = "snakemake"
    sys.exit(main())
