rule judge:
    input:
        index=plan.index,
        masks=plan.judged_masks,
    output:
        judged=plan.path("judged", "judged.json"),
        sets=plan.path("judged", "sets.csv"),
        classes=plan.path("judged", "classes.csv"),
        images=plan.path("judged", "images.csv"),
    log:
        plan.log("judge"),
    benchmark:
        plan.benchmark("judge")
    conda:
        "../envs/environment.yaml"
    threads: plan.threads.refinement
    resources:
        mem_mb=lambda wildcards, attempt: 4000 * attempt,
        runtime=lambda wildcards, attempt: 240 * attempt,
    params:
        sets=plan.judged_flags,
        folder=plan.judged_folder,
        code=plan.code("judge"),
        calibration=plan.assets(catalogue.CALIBRATION),
    message:
        "Quality of all pseudo-masks, predicted without any true mask"
    shell:
        "python -m workflow_scripts.judge {params.sets} --index {input.index:q} "
        "--out {params.folder:q} --threads {threads} --log {log:q}"
