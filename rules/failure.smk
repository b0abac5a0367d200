from workflow_scripts.planning.failure import (
    explain_failure,
    outlive_warnings,
    tell_report,
    unlock_after_kill,
)
from workflow_scripts.planning.slurm_plugin import mend_slurm_plugin

outlive_warnings()
mend_slurm_plugin()
if workflow.is_main_process and unlock_after_kill(Path(".snakemake").absolute()):
    print(
        "The run before was killed: its lock is gone, this one goes on.",
        file=sys.stderr,
    )


onerror:
    print(explain_failure(log, sys.argv[1:], Path(plan.folder)), file=sys.stderr)


onsuccess:
    if told := tell_report(log, Path(plan.path("report.html"))):
        print(told, file=sys.stderr)
