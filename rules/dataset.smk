rule prepare_dataset:
    input:
        # Their content decides, and that of folders: see `files` below.
        tables=ancient(plan.dataset_tables),
        state=plan.recorded_state,
    output:
        index=plan.index,
        classes=plan.path("dataset", "classes.csv"),
    log:
        plan.log("prepare_dataset"),
    benchmark:
        plan.benchmark("prepare_dataset")
    localrule: True
    conda:
        "../envs/environment.yaml"
    threads: 4
    resources:
        mem_mb=lambda wildcards, attempt: 4000 * attempt,
        runtime=lambda wildcards, attempt: 720 * attempt,
    params:
        settings=plan.dataset_flags,
        folder=plan.dataset_folder,
        files=plan.dataset_state,
        code=plan.code("prepare_dataset", "dataset"),
    message:
        "Dataset: index of the images and their labels"
    shell:
        "python -m workflow_scripts.prepare_dataset "
        "{params.settings} --output {params.folder:q} "
        "--threads {threads} --log {log:q}"
