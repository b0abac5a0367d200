rule refine_seeds:
    input:
        index=plan.index,
        activations=plan.path(
            "{trial}", "{method}", "activations", "{shard}.safetensors"
        ),
        thresholds=plan.chosen_seed_thresholds,
    output:
        seeds=plan.path("{trial}", "{method}", "seeds", "{shard}.zip"),
        composition=plan.path("{trial}", "{method}", "seeds", "{shard}.json"),
    log:
        plan.log("refine_seeds", "{trial}", "{method}", "{shard}"),
    benchmark:
        plan.benchmark("refine_seeds", "{trial}", "{method}", "{shard}")
    wildcard_constraints:
        method=plan.thresholded_methods,
    # What others wait for goes first: AMN waits for all of this, segmentation for AMN.
    priority: 2
    conda:
        "../envs/environment.yaml"
    threads: plan.threads.refinement
    resources:
        mem_mb=lambda wildcards, attempt: 4000 * attempt,
        runtime=lambda wildcards, attempt: 240 * attempt,
    params:
        shard=plan.shard_flags,
        settings=plan.seed_flags,
        thresholds=plan.seed_threshold_flags,
        code=plan.code("refine_seeds"),
    message:
        "{wildcards.method}: confident seeds of {wildcards.shard}, trial {wildcards.trial}"
    shell:
        "python -m workflow_scripts.refine_seeds "
        "--index {input.index:q} --activations {input.activations:q} "
        "--output {output.seeds:q} --composition {output.composition:q} "
        "{params.shard} {params.settings} {params.thresholds} "
        "--threads {threads} --log {log:q}"
