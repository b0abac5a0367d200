rule train_cam:
    input:
        index=plan.index,
        weights=ancient(plan.weights("train_cam")),
    output:
        model=plan.path("{trial}", "cam", "model.safetensors"),
        history=plan.path("{trial}", "cam", "training.csv"),
    log:
        plan.log("train_cam", "{trial}"),
    benchmark:
        plan.benchmark("train_cam", "{trial}")
    wildcard_constraints:
        trial=plan.trained_cam,
    # What others wait for goes first: AMN waits for all of this, segmentation for AMN.
    priority: 2
    conda:
        "../envs/environment.yaml"
    threads: plan.threads.cam
    resources:
        mem_mb=lambda wildcards, attempt: 16000 * attempt,
        runtime=lambda wildcards, attempt: 480 * attempt,
        gpu=1,
    params:
        run=plan.training_flags,
        settings=plan.flags("train_cam"),
        weights=plan.weights_state(plan.weights("train_cam")),
        code=plan.code("train_cam"),
    message:
        "CAM: train the multi-label classifier, trial {wildcards.trial}"
    shell:
        "python -m workflow_scripts.training.launch {resources.gpu} train_cam "
        "--index {input.index:q} --output {output.model:q} {params.run} {params.settings} "
        "--threads {threads} --log {log:q}"


rule infer_cam:
    input:
        index=plan.index,
        model=plan.path("{trial}", "cam", "model.safetensors"),
    output:
        plan.path("{trial}", "cam", "activations", "{shard}.safetensors"),
    log:
        plan.log("infer_cam", "{trial}", "{shard}"),
    benchmark:
        plan.benchmark("infer_cam", "{trial}", "{shard}")
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
        settings=plan.flags("infer_cam"),
        code=plan.code("infer_cam"),
    message:
        "CAM: activations of {wildcards.shard}, trial {wildcards.trial}"
    shell:
        "python -m workflow_scripts.infer_cam "
        "--index {input.index:q} --model {input.model:q} --output {output:q} "
        "{params.shard} {params.settings} "
        "--threads {threads} --log {log:q}"
