report: "../workflow_scripts/report/captions/workflow.rst"


rule plot_figures:
    input:
        summary=rules.summarise.output.summary,
        curves=rules.summarise.output.curves,
        evaluations=plan.evaluations,
        histories=plan.report_files.histories,
        thresholds=plan.report_files.chosen_thresholds,
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
        folder=plan.figures_folder,
        names=[item.file for item in plan.report_items],
        settings=plan.run_flags,
        benchmarks=plan.benchmark_flags,
        code=plan.code("plot_figures"),
    message:
        "Figures of the report"
    shell:
        "python -m workflow_scripts.plot_figures "
        "--run {params.run:q} --summary {input.summary:q} --curves {input.curves:q} "
        "--histories {input.histories:q} --output {params.folder:q} "
        "--figures {params.names} {params.settings} {params.benchmarks} --threads {threads} --log {log:q}"


rule make_pages:
    input:
        summary=rules.summarise.output.summary,
        differences=rules.summarise.output.differences,
        index=plan.index,
        configuration=rules.record_configuration.output,
        figures=rules.plot_figures.output,
        judged=plan.judged,
    output:
        front_page=report(
            plan.path("pages", catalogue.PAGES[0].file), **catalogue.PAGES[0].marks
        ),
        summary_table=report(
            plan.path("pages", catalogue.PAGES[1].file), **catalogue.PAGES[1].marks
        ),
        provenance=report(
            plan.path("pages", catalogue.PAGES[2].file), **catalogue.PAGES[2].marks
        ),
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
        split=plan.judged_split,
        code=plan.code("make_pages"),
        captions=plan.assets(catalogue.CAPTIONS),
    message:
        "Front page, table and provenance of the report"
    shell:
        "python -m workflow_scripts.make_pages "
        "--summary {input.summary:q} --differences {input.differences:q} --index {input.index:q} "
        "--configuration {input.configuration:q} --figures {input.figures:q} "
        "--judged {input.judged:q} --judged-split {params.split} "
        "--front-page {output.front_page:q} --summary-table {output.summary_table:q} "
        "--provenance {output.provenance:q} {params.settings} --threads {threads} --log {log:q}"


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
        code=plan.code("render_report"),
        assets=plan.assets([*catalogue.CAPTIONS, catalogue.FRAMES]),
    message:
        "Report"
    shell:
        "python -m workflow_scripts.render_report "
        "--snakefile {params.snakefile:q} --configuration {input.configuration:q} "
        "--output {output:q} --threads {threads} --log {log:q}"
