# Not in dry runs. Snakemake heeds one `onstart` alone.
onstart:
    if workflow.is_main_process:
        plan.record_parts()
    # On one machine, no more jobs than GPUs ask for one at a time; elsewhere the scheduler counts them.
    if workflow.local_exec and "gpu" not in workflow.global_resources:
        if limit := plan.gpu_limit:
            workflow.register_resource("gpu", limit)
