from workflow_scripts.planning.failure import explain_failure, outlive_warnings
from workflow_scripts.planning.slurm_plugin import mend_slurm_plugin

outlive_warnings()
mend_slurm_plugin()


onerror:
    print(explain_failure(log, sys.argv[1:]), file=sys.stderr)
