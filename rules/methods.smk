rule train:
    input:
        index=plan.index,
        seeds=plan.source_training_seeds,
        source=plan.source_network,
        weights=ancient(plan.method_weights),
        features=plan.method_features,
    output:
        model=plan.path("{trial}", "{method}", "model.safetensors"),
        history=plan.path("{trial}", "{method}", "training.csv"),
    log:
        plan.log("train", "{trial}", "{method}"),
    benchmark:
        plan.benchmark("train", "{trial}", "{method}")
    wildcard_constraints:
        method=plan.trained_methods,
    # What others wait for goes first: a method's readers wait for all of this, segmentation for them.
    priority: 2
    conda:
        "../envs/environment.yaml"
    threads: plan.training_threads
    resources:
        mem_mb=lambda wildcards, attempt: 24000 * attempt,
        runtime=lambda wildcards, attempt: 720 * attempt,
        gpu=1,
    params:
        entry=plan.base,
        sources=plan.source_flags,
        features=plan.feature_input_flags,
        run=plan.training_flags,
        settings=plan.method_flags,
        weights=plan.weights_state(plan.method_weights),
        code=plan.method_code("train"),
    message:
        "{wildcards.method}: train the network, trial {wildcards.trial}"
    shell:
        "python -m workflow_scripts.training.launch {resources.gpu} train {params.entry} "
        "--index {input.index:q} --output {output.model:q} "
        "{params.sources} {params.features} {params.run} {params.settings} "
        "--threads {threads} --log {log:q}"


rule infer:
    input:
        index=plan.index,
        model=plan.path("{trial}", "{method}", "model.safetensors"),
        seeds=plan.source_seeds,
    output:
        plan.path("{trial}", "{method}", "activations", "{shard}.safetensors"),
    log:
        plan.log("infer", "{trial}", "{method}", "{shard}"),
    benchmark:
        plan.benchmark("infer", "{trial}", "{method}", "{shard}")
    wildcard_constraints:
        method=plan.inferred_methods,
    # What others wait for goes first: a method's readers wait for all of this, segmentation for them.
    priority: 2
    conda:
        "../envs/environment.yaml"
    threads: plan.threads.inference
    resources:
        mem_mb=lambda wildcards, attempt: 8000 * attempt,
        runtime=lambda wildcards, attempt: 240 * attempt,
        gpu=1,
    params:
        entry=plan.base,
        seeds=plan.seed_input_flags,
        shard=plan.shard_flags,
        settings=plan.inference_flags,
        code=plan.method_code("infer"),
    message:
        "{wildcards.method}: activations of {wildcards.shard}, trial {wildcards.trial}"
    shell:
        "python -m workflow_scripts.infer {params.entry} "
        "--index {input.index:q} --model {input.model:q} --output {output:q} "
        "{params.seeds} {params.shard} {params.settings} "
        "--threads {threads} --log {log:q}"
