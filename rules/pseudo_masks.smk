rule make_pseudo_masks:
    input:
        index=plan.index,
        activations=plan.refined_activations,
        thresholds=plan.chosen_threshold,
        # The files in it decide, as their state says; the folder's own time says little.
        regions=ancient(plan.region_folder),
        state=plan.recorded_regions,
    output:
        plan.path("{trial}", "{method}", "{source}", "pseudo_masks", "{shard}.zip"),
    log:
        plan.log("make_pseudo_masks", "{trial}", "{method}", "{source}", "{shard}"),
    benchmark:
        plan.benchmark(
            "make_pseudo_masks", "{trial}", "{method}", "{source}", "{shard}"
        )
    # What others wait for goes before evaluation.
    priority: 1
    conda:
        "../envs/environment.yaml"
    threads: plan.threads.refinement
    resources:
        mem_mb=lambda wildcards, attempt: 4000 * attempt,
        runtime=lambda wildcards, attempt: 240 * attempt,
    params:
        shard=plan.shard_flags,
        threshold=plan.threshold_flags,
        settings=plan.flags("pseudo_masks"),
        regions=plan.region_state,
        code=plan.code("make_pseudo_masks"),
    message:
        "{wildcards.method}: pseudo-masks of {wildcards.shard} at {wildcards.source}, trial {wildcards.trial}"
    shell:
        "python -m workflow_scripts.make_pseudo_masks "
        "--index {input.index:q} --activations {input.activations:q} "
        "{params.threshold} --output {output:q} "
        "{params.shard} {params.settings} "
        "--threads {threads} --log {log:q}"
