rule plot_figures:
    input:
        summary=rules.summarise.output.summary,
        curves=rules.summarise.output.curves,
    output:
        [
            report(plan.path("figures", item.file), **item.marks)
            for item in plan.report_items
        ],
    log:
        plan.log("plot_figures"),
    benchmark:
        plan.benchmark("plot_figures")
    localrule: True
    conda:
        "../envs/environment.yaml"
    threads: 1
    resources:
        mem_mb=lambda wildcards, attempt: 4000 * attempt,
        runtime=lambda wildcards, attempt: 30 * attempt,
    params:
        run=plan.run_folder,
        benchmarks=plan.path("benchmarks"),
        folder=plan.figures_folder,
        names=[item.file for item in plan.report_items],
        settings=plan.run_flags,
        code=plan.code("plot_figures"),
    message:
        "Figures of the report"
    shell:
        "python -m workflow_scripts.plot_figures "
        "--run {params.run:q} --summary {input.summary:q} --curves {input.curves:q} "
        "--benchmarks {params.benchmarks:q} --output {params.folder:q} "
        "--figures {params.names} {params.settings} --threads {threads} --log {log:q}"


rule make_pages:
    input:
        summary=rules.summarise.output.summary,
        differences=rules.summarise.output.differences,
        configuration=rules.record_configuration.output,
    output:
        front_page=report(plan.path("pages", PAGES[0].file), **PAGES[0].marks),
        summary_table=report(plan.path("pages", PAGES[1].file), **PAGES[1].marks),
        provenance=report(plan.path("pages", PAGES[2].file), **PAGES[2].marks),
    log:
        plan.log("make_pages"),
    benchmark:
        plan.benchmark("make_pages")
    localrule: True
    conda:
        "../envs/environment.yaml"
    threads: 1
    resources:
        mem_mb=lambda wildcards, attempt: 2000 * attempt,
        runtime=lambda wildcards, attempt: 30 * attempt,
    params:
        settings=plan.seeds_of_trials,
        code=plan.code("make_pages"),
    message:
        "Front page, table and provenance of the report"
    shell:
        "python -m workflow_scripts.make_pages "
        "--summary {input.summary:q} --differences {input.differences:q} "
        "--configuration {input.configuration:q} --front-page {output.front_page:q} "
        "--summary-table {output.summary_table:q} --provenance {output.provenance:q} "
        "{params.settings} --threads {threads} --log {log:q}"


rule make_gallery:
    input:
        index=plan.index,
        summary=rules.summarise.output.summary,
    output:
        report(plan.path("gallery.html"), **GALLERY.marks),
    log:
        plan.log("make_gallery"),
    benchmark:
        plan.benchmark("make_gallery")
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
        source=plan.sources[0],
        splits=plan.report_splits,
        settings=plan.flags("report", "gallery"),
        code=plan.code("make_gallery"),
    message:
        "Gallery of the report"
    shell:
        "python -m workflow_scripts.make_gallery "
        "--run {params.run:q} --index {input.index:q} --output {output:q} "
        "{params.shown} --source {params.source} --splits {params.splits} "
        "{params.settings} --threads {threads} --log {log:q}"
