rule train_amn:
    input:
        index=plan.index,
        seeds=plan.source_training_seeds,
        weights=ancient(plan.amn_weights),
    output:
        model=plan.path("{trial}", "{method}", "model.safetensors"),
        history=plan.path("{trial}", "{method}", "training.csv"),
    log:
        plan.log("train_amn", "{trial}", "{method}"),
    benchmark:
        plan.benchmark("train_amn", "{trial}", "{method}")
    wildcard_constraints:
        method=plan.trained_amn,
    # What others wait for goes first: AMN waits for all of this, segmentation for AMN.
    priority: 2
    conda:
        "../envs/environment.yaml"
    threads: plan.threads.amn
    resources:
        mem_mb=lambda wildcards, attempt: 24000 * attempt,
        runtime=lambda wildcards, attempt: 720 * attempt,
        gpu=1,
    params:
        run=plan.training_flags,
        settings=plan.amn_flags,
        weights=plan.weights_state(plan.amn_weights),
        code=plan.code("train_amn"),
    message:
        "{wildcards.method}: train the network, trial {wildcards.trial}"
    shell:
        "python -m workflow_scripts.training.launch {resources.gpu} train_amn "
        "--index {input.index:q} --seeds {input.seeds:q} "
        "--output {output.model:q} {params.run} {params.settings} "
        "--threads {threads} --log {log:q}"


rule infer_amn:
    input:
        index=plan.index,
        model=plan.path("{trial}", "{method}", "model.safetensors"),
        seeds=plan.source_seeds,
    output:
        plan.path("{trial}", "{method}", "activations", "{shard}.safetensors"),
    log:
        plan.log("infer_amn", "{trial}", "{method}", "{shard}"),
    benchmark:
        plan.benchmark("infer_amn", "{trial}", "{method}", "{shard}")
    wildcard_constraints:
        method=plan.amn_methods,
    # What others wait for goes first: AMN waits for all of this, segmentation for AMN.
    priority: 2
    conda:
        "../envs/environment.yaml"
    threads: plan.threads.inference
    resources:
        mem_mb=lambda wildcards, attempt: 8000 * attempt,
        runtime=lambda wildcards, attempt: 240 * attempt,
        gpu=1,
    params:
        shard=plan.shard_flags,
        settings=plan.flags("infer_amn"),
        code=plan.code("infer_amn"),
    message:
        "{wildcards.method}: activations of {wildcards.shard}, trial {wildcards.trial}"
    shell:
        "python -m workflow_scripts.infer_amn "
        "--index {input.index:q} --model {input.model:q} --seeds {input.seeds:q} "
        "--output {output:q} {params.shard} {params.settings} "
        "--threads {threads} --log {log:q}"
