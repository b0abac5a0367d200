rule sweep_thresholds:
    input:
        index=plan.index,
        activations=plan.path(
            "{trial}", "{method}", "activations", "{shard}.safetensors"
        ),
    output:
        plan.path("{trial}", "{method}", "sweep", "{shard}.safetensors"),
    log:
        plan.log("sweep_thresholds", "{trial}", "{method}", "{shard}"),
    benchmark:
        plan.benchmark("sweep_thresholds", "{trial}", "{method}", "{shard}")
    conda:
        "../envs/environment.yaml"
    threads: plan.threads.refinement
    resources:
        mem_mb=lambda wildcards, attempt: 4000 * attempt,
        runtime=lambda wildcards, attempt: 240 * attempt,
    params:
        shard=plan.shard_flags,
        settings=plan.flags("sweep"),
        code=plan.code("sweep_thresholds"),
    message:
        "{wildcards.method}: mIoU at every threshold, {wildcards.shard}, trial {wildcards.trial}"
    shell:
        "python -m workflow_scripts.sweep_thresholds "
        "--index {input.index:q} --activations {input.activations:q} "
        "--output {output:q} {params.shard} {params.settings} "
        "--threads {threads} --log {log:q}"


use rule sweep_thresholds as sweep_propagated with:
    input:
        index=plan.index,
        activations=plan.path(
            "{trial}", "{method}", "propagated", "{shard}.safetensors"
        ),
    output:
        plan.path("{trial}", "{method}", "propagated_sweep", "{shard}.safetensors"),
    log:
        plan.log("sweep_propagated", "{trial}", "{method}", "{shard}"),
    benchmark:
        plan.benchmark("sweep_propagated", "{trial}", "{method}", "{shard}")
    params:
        shard=plan.shard_flags,
        settings=plan.propagated_sweep_flags,
        code=plan.code("sweep_thresholds"),
    message:
        "{wildcards.method}: mIoU of propagated activations at every threshold, {wildcards.shard}, trial {wildcards.trial}"


# Nobody asks for it but who compares refinements, as tools/photographs.py does.
use rule sweep_thresholds as sweep_refined with:
    input:
        index=plan.index,
        activations=plan.refined_activations,
        thresholds=plan.path("{trial}", "{method}", "auto", "thresholds.json"),
    output:
        plan.path(
            "{trial}",
            "{method}",
            "refined_sweep",
            "{refinement}",
            "{shard}.safetensors",
        ),
    log:
        plan.log("sweep_refined", "{trial}", "{method}", "{refinement}", "{shard}"),
    benchmark:
        plan.benchmark(
            "sweep_refined", "{trial}", "{method}", "{refinement}", "{shard}"
        )
    wildcard_constraints:
        refinement="crf|par",
    params:
        shard=plan.shard_flags,
        settings=plan.refined_sweep_flags,
        code=plan.code("sweep_thresholds"),
    message:
        "{wildcards.method}: mIoU after {wildcards.refinement}, {wildcards.shard}, trial {wildcards.trial}"
