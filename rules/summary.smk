rule summarise:
    input:
        index=plan.index,
        evaluations=plan.evaluations,
        networks=plan.networks,
        predictions=plan.predictions,
    output:
        summary=plan.path("summary.json"),
        table=plan.path("summary.csv"),
        curves=plan.path("curves.csv"),
        differences=plan.path("differences.csv"),
    log:
        plan.log("summarise"),
    benchmark:
        plan.benchmark("summarise")
    localrule: True
    conda:
        "../envs/environment.yaml"
    threads: 1
    resources:
        mem_mb=lambda wildcards, attempt: 4000 * attempt,
        runtime=lambda wildcards, attempt: 60 * attempt,
    params:
        run=plan.run_folder,
        settings=plan.summary_flags,
        benchmarks=plan.benchmark_flags,
        code=plan.code("summarise"),
    message:
        "Summary of all trials and methods"
    shell:
        "python -m workflow_scripts.summarise "
        "--run {params.run:q} --index {input.index:q} "
        "--summary {output.summary:q} --table {output.table:q} "
        "--curves {output.curves:q} --differences {output.differences:q} "
        "{params.settings} {params.benchmarks} --threads {threads} --log {log:q}"
