from workflow_scripts.planning.failure import explain_failure, outlive_warnings

outlive_warnings()


onerror:
    print(explain_failure(log, sys.argv[1:]), file=sys.stderr)
