rule make_gallery:
    input:
        index=plan.index,
        activations=plan.report_files.activations,
        sweeps=plan.report_files.sweeps,
        seeds=plan.report_files.seeds,
        pseudo_masks=plan.report_files.pseudo_masks,
        predictions=plan.report_files.predictions,
        judged=plan.judged_tables,
    output:
        report(plan.path("gallery.html"), **catalogue.GALLERY.marks),
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
        judged=plan.looks_flags,
        settings=plan.flags("report", "gallery"),
        code=plan.code("make_gallery"),
        assets=plan.assets(catalogue.GALLERY_ASSETS),
    message:
        "Gallery of the report"
    shell:
        "python -m workflow_scripts.make_gallery "
        "--run {params.run:q} --index {input.index:q} --output {output:q} "
        "{params.shown} --source {params.source} --splits {params.splits} "
        "{params.judged} {params.settings} --threads {threads} --log {log:q}"


rule make_explorer:
    input:
        index=plan.index,
        curves=rules.summarise.output.curves,
        activations=plan.report_files.activations,
        sweeps=plan.report_files.sweeps,
        thresholds=plan.report_files.chosen_thresholds,
    output:
        report(plan.path("explorer.html"), **catalogue.EXPLORER.marks),
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
        assets=plan.assets(catalogue.EXPLORER_ASSETS),
    message:
        "Threshold explorer"
    shell:
        "python -m workflow_scripts.make_explorer "
        "--run {params.run:q} --index {input.index:q} --curves {input.curves:q} "
        "--output {output:q} {params.shown} --sources {params.sources} "
        "--split {params.split} {params.settings} --threads {threads} --log {log:q}"
