rule make_explorer:
    input:
        index=plan.index,
        curves=rules.summarise.output.curves,
    output:
        report(plan.path("explorer.html"), **EXPLORER.marks),
    log:
        plan.log("make_explorer"),
    benchmark:
        plan.benchmark("make_explorer")
    localrule: True
    conda:
        "../envs/environment.yaml"
    threads: 1
    resources:
        mem_mb=lambda wildcards, attempt: 4000 * attempt,
        runtime=lambda wildcards, attempt: 30 * attempt,
    params:
        run=plan.run_folder,
        shown=plan.shown_flags,
        sources=plan.sources,
        split=plan.explored_split,
        settings=plan.flags("report", "explorer"),
        code=plan.code("make_explorer"),
    message:
        "Threshold explorer"
    shell:
        "python -m workflow_scripts.make_explorer "
        "--run {params.run:q} --index {input.index:q} --curves {input.curves:q} "
        "--output {output:q} {params.shown} --sources {params.sources} "
        "--split {params.split} {params.settings} --threads {threads} --log {log:q}"


# Snakemake renders its report from finished jobs: a second Snakemake looks at those of `report_items`.
rule render_report:
    input:
        rules.plot_figures.output,
        rules.make_pages.output,
        rules.make_gallery.output,
        rules.make_explorer.output,
        configuration=rules.record_configuration.output,
    output:
        plan.path("report.html"),
    log:
        plan.log("render_report"),
    benchmark:
        plan.benchmark("render_report")
    localrule: True
    conda:
        "../envs/environment.yaml"
    threads: 1
    resources:
        mem_mb=lambda wildcards, attempt: 4000 * attempt,
        runtime=lambda wildcards, attempt: 30 * attempt,
    params:
        snakefile=str(workflow.main_snakefile),
    message:
        "Report"
    shell:
        "snakemake report_items --report {output:q} --nolock --quiet "
        "--snakefile {params.snakefile:q} --configfile {input.configuration:q} "
        "2> {log:q}"
