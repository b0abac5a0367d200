rule choose_thresholds:
    input:
        index=plan.index,
        activations=plan.choosing_activations(),
    output:
        plan.path("{trial}", "{method}", "auto", "{place}.json"),
    log:
        plan.log("choose_thresholds", "{trial}", "{method}", "{place}"),
    benchmark:
        plan.benchmark("choose_thresholds", "{trial}", "{method}", "{place}")
    wildcard_constraints:
        place="thresholds|seed_thresholds",
    # What others wait for goes first: AMN waits for all of this, segmentation for AMN.
    priority: 2
    conda:
        "../envs/environment.yaml"
    threads: plan.threads.refinement
    resources:
        mem_mb=lambda wildcards, attempt: 4000 * attempt,
        runtime=lambda wildcards, attempt: 240 * attempt,
    params:
        # Seeds have the same thresholds for all classes and images.
        tables=lambda wildcards: (
            "--tables" if wildcards.place == "thresholds" else "--no-tables"
        ),
        settings=plan.flags("choose_thresholds"),
        code=plan.code("choose_thresholds", "choose_thresholds"),
    message:
        "{wildcards.method}: {wildcards.place} without any mask, trial {wildcards.trial}"
    shell:
        "python -m workflow_scripts.choose_thresholds "
        "--index {input.index:q} --activations {input.activations:q} "
        "--output {output:q} {params.tables} {params.settings} "
        "--threads {threads} --log {log:q}"


rule validate_thresholds:
    input:
        index=plan.index,
        activations=plan.validation_activations,
    output:
        plan.path("{trial}", "{method}", "validation", "{place}.json"),
    log:
        plan.log("validate_thresholds", "{trial}", "{method}", "{place}"),
    benchmark:
        plan.benchmark("validate_thresholds", "{trial}", "{method}", "{place}")
    wildcard_constraints:
        place="thresholds|seed_thresholds",
    # What others wait for goes first: AMN waits for all of this, segmentation for AMN.
    priority: 2
    conda:
        "../envs/environment.yaml"
    threads: 1
    resources:
        mem_mb=lambda wildcards, attempt: 2000 * attempt,
        runtime=lambda wildcards, attempt: 60 * attempt,
    params:
        settings=plan.flags("validate_thresholds"),
        code=plan.code("validate_thresholds"),
    message:
        "{wildcards.method}: {wildcards.place} on masks of a validation split, trial {wildcards.trial}"
    shell:
        "python -m workflow_scripts.validate_thresholds "
        "--index {input.index:q} --activations {input.activations:q} "
        "--output {output:q} {params.settings} "
        "--threads {threads} --log {log:q}"
