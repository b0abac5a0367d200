rule cache_features:
    input:
        index=plan.index,
        weights=ancient(plan.feature_weights),
    output:
        plan.path("features", "{features}", "{shard}.safetensors"),
    log:
        plan.log("cache_features", "{features}", "{shard}"),
    benchmark:
        plan.benchmark("cache_features", "{features}", "{shard}")
    wildcard_constraints:
        features=plan.stored_features,
    # All trainings wait for these.
    priority: 3
    conda:
        "../envs/environment.yaml"
    threads: plan.threads.inference
    resources:
        mem_mb=lambda wildcards, attempt: 8000 * attempt,
        runtime=lambda wildcards, attempt: 240 * attempt,
        gpu=1,
    params:
        shard=plan.shard_flags,
        settings=plan.feature_flags,
        weights=plan.weights_state(plan.feature_weights),
        code=plan.feature_code,
    message:
        "{wildcards.features}: features of {wildcards.shard}, for all trainings that share them"
    shell:
        "python -m workflow_scripts.cache_features "
        "--index {input.index:q} --output {output:q} "
        "{params.shard} {params.settings} "
        "--threads {threads} --log {log:q}"
