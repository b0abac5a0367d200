rule train_segmentation:
    input:
        index=plan.index,
        masks=plan.training_masks,
        weights=ancient(plan.weights("train_segmentation")),
        features=plan.segmentation_features,
    output:
        model=plan.path(
            "{trial}", "{method}", "{source}", "segmentation", "model.safetensors"
        ),
        description=plan.path(
            "{trial}", "{method}", "{source}", "segmentation", "model.json"
        ),
        history=plan.path(
            "{trial}", "{method}", "{source}", "segmentation", "training.csv"
        ),
    log:
        plan.log("train_segmentation", "{trial}", "{method}", "{source}"),
    benchmark:
        plan.benchmark("train_segmentation", "{trial}", "{method}", "{source}")
    # What others wait for goes before evaluation.
    priority: 1
    conda:
        "../envs/environment.yaml"
    threads: plan.threads.segmentation
    resources:
        mem_mb=lambda wildcards, attempt: 24000 * attempt,
        runtime=lambda wildcards, attempt: 1440 * attempt,
        gpu=1,
    params:
        features=plan.feature_input_flags,
        run=plan.training_flags,
        settings=plan.flags("train_segmentation"),
        weights=plan.weights_state(plan.weights("train_segmentation")),
        code=plan.code("train_segmentation", "train_segmentation"),
    message:
        "{wildcards.method} {wildcards.source}: train the segmentation network, trial {wildcards.trial}"
    shell:
        "python -m workflow_scripts.training.launch {resources.gpu} train_segmentation "
        "--index {input.index:q} --masks {input.masks:q} "
        "--output {output.model:q} {params.features} {params.run} {params.settings} "
        "--threads {threads} --log {log:q}"


rule evaluate_segmentation:
    input:
        index=plan.index,
        model=plan.path(
            "{trial}", "{method}", "{source}", "segmentation", "model.safetensors"
        ),
    output:
        plan.path(
            "{trial}",
            "{method}",
            "{source}",
            "segmentation",
            "predictions",
            "{shard}.zip",
        ),
    log:
        plan.log("evaluate_segmentation", "{trial}", "{method}", "{source}", "{shard}"),
    benchmark:
        plan.benchmark(
            "evaluate_segmentation", "{trial}", "{method}", "{source}", "{shard}"
        )
    # What others wait for goes before evaluation.
    priority: 1
    conda:
        "../envs/environment.yaml"
    threads: plan.threads.inference
    resources:
        mem_mb=lambda wildcards, attempt: 8000 * attempt,
        runtime=lambda wildcards, attempt: 240 * attempt,
        gpu=1,
    params:
        shard=plan.shard_flags,
        settings=plan.prediction_flags,
        code=plan.code("evaluate_segmentation", "train_segmentation"),
    message:
        "{wildcards.method} {wildcards.source}: predictions of {wildcards.shard}, trial {wildcards.trial}"
    shell:
        "python -m workflow_scripts.evaluate_segmentation "
        "--index {input.index:q} --model {input.model:q} --output {output:q} "
        "{params.shard} {params.settings} "
        "--threads {threads} --log {log:q}"
