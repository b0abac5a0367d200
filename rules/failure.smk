from workflow_scripts.planning.failure import explain_failure, outlive_warnings
from workflow_scripts.planning.slurm_states import know_cancelled_jobs

outlive_warnings()
know_cancelled_jobs()


onerror:
    print(explain_failure(log, sys.argv[1:]), file=sys.stderr)
