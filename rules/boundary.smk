rule train_boundary:
    input:
        index=plan.index,
        seeds=plan.own_training_seeds,
        weights=ancient(plan.weights("boundary", "train")),
    output:
        model=plan.path("{trial}", "{method}", "boundary", "model.safetensors"),
        history=plan.path("{trial}", "{method}", "boundary", "training.csv"),
    log:
        plan.log("train_boundary", "{trial}", "{method}"),
    benchmark:
        plan.benchmark("train_boundary", "{trial}", "{method}")
    wildcard_constraints:
        method=plan.trained_boundaries,
    conda:
        "../envs/environment.yaml"
    threads: plan.threads.boundary
    resources:
        mem_mb=lambda wildcards, attempt: 24000 * attempt,
        runtime=lambda wildcards, attempt: 720 * attempt,
        gpu=1,
    params:
        run=plan.training_flags,
        settings=plan.flags("boundary", "train"),
        weights=plan.weights_state(plan.weights("boundary", "train")),
        code=plan.code("train_boundary", "boundary", "train"),
    message:
        "{wildcards.method}: train the boundary network, trial {wildcards.trial}"
    shell:
        "python -m workflow_scripts.training.launch {resources.gpu} train_boundary "
        "--index {input.index:q} --seeds {input.seeds:q} "
        "--output {output.model:q} {params.run} {params.settings} "
        "--threads {threads} --log {log:q}"


rule propagate:
    input:
        index=plan.index,
        model=plan.path("{trial}", "{method}", "boundary", "model.safetensors"),
        activations=plan.path(
            "{trial}", "{method}", "activations", "{shard}.safetensors"
        ),
    output:
        plan.path("{trial}", "{method}", "propagated", "{shard}.safetensors"),
    log:
        plan.log("propagate", "{trial}", "{method}", "{shard}"),
    benchmark:
        plan.benchmark("propagate", "{trial}", "{method}", "{shard}")
    conda:
        "../envs/environment.yaml"
    threads: plan.threads.inference
    resources:
        mem_mb=lambda wildcards, attempt: 8000 * attempt,
        runtime=lambda wildcards, attempt: 240 * attempt,
        gpu=1,
    params:
        shard=plan.shard_flags,
        settings=plan.propagation_flags,
        code=plan.propagation_code,
    message:
        "{wildcards.method}: propagate activations of {wildcards.shard}, trial {wildcards.trial}"
    shell:
        "python -m workflow_scripts.propagate "
        "--index {input.index:q} --model {input.model:q} "
        "--activations {input.activations:q} --output {output:q} "
        "{params.shard} {params.settings} "
        "--threads {threads} --log {log:q}"
