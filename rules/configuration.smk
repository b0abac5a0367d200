rule record_configuration:
    output:
        plan.path("config.yaml"),
    log:
        plan.log("record_configuration"),
    benchmark:
        plan.benchmark("record_configuration")
    localrule: True
    conda:
        "../envs/environment.yaml"
    threads: 1
    resources:
        mem_mb=lambda wildcards, attempt: 500 * attempt,
        runtime=lambda wildcards, attempt: 10 * attempt,
    params:
        configuration=plan.configuration,
        code=plan.code("record_configuration"),
    message:
        "Resolved configuration of the run"
    shell:
        "python -m workflow_scripts.record_configuration "
        "--configuration {params.configuration:q} --output {output:q} "
        "--threads {threads} --log {log:q}"
